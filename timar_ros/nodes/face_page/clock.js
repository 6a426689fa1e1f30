// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// What the node's clock shows now, from pings over the socket: NTP's rule, the sample with the
// shortest way there and back is the best. Follows simulated clocks that run at another rate, stand
// still or jump.

const WINDOW_MS = 15000;
const SLEW_MS = 700;

export class ServerClock {
  constructor() {
    this.reset();
  }

  reset() {
    this.samples = [];
    this.rate = 1;
    this.base = null; // {at, server}: the line now in use
    this.applied = null; // offset in use, slewed towards the base's
    this.appliedAt = 0;
    this.isUnsettled = true; // ask again soon
    this.roundTrip = NaN;
  }

  get isKnown() {
    return this.base !== null;
  }

  // Take a ping: sent and received by performance.now(), ms, and the node's clock in between.
  add(sent, received, server) {
    const sample = { at: (sent + received) / 2, server, roundTrip: received - sent };
    const last = this.samples[this.samples.length - 1];
    const miss = this.base ? server - this.line(sample.at) : 0;
    const isOff = this.base && Math.abs(miss) > Math.max(4, sample.roundTrip + this.roundTrip);
    if (isOff) {
      // The node's clock has jumped, or runs at another rate than ours.
      const rate = (server - last.server) / Math.max(1, sample.at - last.at);
      const isClose = Math.abs(rate - 1) < 0.02 || sample.at - last.at < 50;
      this.rate = isClose || rate < 0 || rate > 20 ? 1 : rate;
      this.samples = [];
    }
    this.isUnsettled = Boolean(isOff) || this.samples.length < 4;
    this.samples.push(sample);
    this.samples = this.samples.filter((s) => s.at > sample.at - WINDOW_MS);
    const pool = this.rate === 1 ? this.samples : [sample];
    this.base = pool.reduce((best, s) => (s.roundTrip < best.roundTrip ? s : best));
    this.roundTrip = this.base.roundTrip;
    if (isOff || this.applied === null || this.rate !== 1) this.applied = null;
  }

  line(local) {
    return this.base.server + (local - this.base.at) * this.rate;
  }

  // The node's clock, ms, at a time of performance.now(); small corrections are slewed.
  now(local) {
    if (!this.base) return NaN;
    if (this.rate !== 1) return this.line(local);
    const target = this.base.server - this.base.at;
    if (this.applied === null) {
      this.applied = target;
    } else {
      const elapsed = Math.max(0, local - this.appliedAt);
      this.applied += (target - this.applied) * (1 - Math.exp(-elapsed / SLEW_MS));
    }
    this.appliedAt = Math.max(this.appliedAt, local);
    return local + this.applied;
  }
}
