// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// The frames of all plans, each shown at its stamp, and smooth in between. A newer plan replaces what
// an older one says from its first stamp on.

import { N_ARKIT } from './wire.js';

const HISTORY_MS = 12000;
const GAP_MS = 250; // frames further apart belong to different motions
const HOLD_MS = 250; // how long the last frame stays before the face comes to rest
const REST_MS = 350; // time constant of that
const MAX_FRAMES = 6000; // the newest plan is kept in full, whatever the stamps of older ones say
const JOIN_MS = 160; // how long the way from rest into a motion takes

export class Track {
  constructor() {
    this.clear();
  }

  clear() {
    this.frames = [];
    this.cursor = 0;
  }

  get end() {
    return this.frames.length ? this.frames[this.frames.length - 1].at : -Infinity;
  }

  push(frames) {
    if (!frames.length) return;
    const first = frames[0].at;
    let keep = this.frames.length;
    while (keep && this.frames[keep - 1].at > first - 1) keep--;
    let old = 0;
    while (old < keep && this.frames[old].at < first - HISTORY_MS) old++;
    old = Math.max(old, keep + frames.length - MAX_FRAMES);
    this.frames = this.frames.slice(old, keep).concat(frames.map(aligned));
    this.cursor = 0;
  }

  // Write the pose at a time of the node's clock into `out` {neck [4], arkit [52]}. Returns whether a
  // plan says so, rather than the rest before, between and after plans.
  sample(at, out) {
    const frames = this.frames;
    const i = this.before(at);
    const here = frames[i];
    const next = frames[i + 1];
    if (here && next && next.at - here.at <= GAP_MS) {
      const before = i > 0 && here.at - frames[i - 1].at <= GAP_MS ? frames[i - 1] : here;
      const after = i + 2 < frames.length && frames[i + 2].at - next.at <= GAP_MS ? frames[i + 2] : next;
      spline(before, here, next, after, (at - here.at) / (next.at - here.at), out);
      return true;
    }
    rest(out);
    if (here) approach(out, here, Math.exp(-Math.max(0, at - here.at - HOLD_MS) / REST_MS));
    if (next) approach(out, next, smooth(1 - (next.at - at) / JOIN_MS));
    return Boolean(here) && at - here.at <= HOLD_MS;
  }

  // Index of the last frame at or before a time, -1 if there is none.
  before(at) {
    const frames = this.frames;
    let i = Math.min(this.cursor, frames.length - 1);
    while (i >= 0 && frames[i].at > at) i--;
    while (i + 1 < frames.length && frames[i + 1].at <= at) i++;
    this.cursor = Math.max(0, i);
    return i;
  }
}

export function neutralPose() {
  return { neck: new Float32Array([0, 0, 0, 1]), arkit: new Float32Array(N_ARKIT) };
}

function rest(out) {
  out.neck.set([0, 0, 0, 1]);
  out.arkit.fill(0);
}

function aligned(frame, i, all) {
  // q and -q are one rotation; neighbours must be near each other to be interpolated.
  const last = i ? all[i - 1].neck : [0, 0, 0, 1];
  const q = frame.neck;
  const dot = q[0] * last[0] + q[1] * last[1] + q[2] * last[2] + q[3] * last[3];
  if (dot < 0) for (let k = 0; k < 4; k++) q[k] = -q[k];
  return frame;
}

export function smooth(x) {
  const s = Math.min(1, Math.max(0, x));
  return s * s * (3 - 2 * s);
}

// Catmull-Rom through four frames; blendshapes do not leave the range of the two in the middle by
// more than a blendshape may.
function spline(a, b, c, d, s, out) {
  const s2 = s * s;
  const s3 = s2 * s;
  const wa = 0.5 * (-s3 + 2 * s2 - s);
  const wb = 0.5 * (3 * s3 - 5 * s2 + 2);
  const wc = 0.5 * (-3 * s3 + 4 * s2 + s);
  const wd = 0.5 * (s3 - s2);
  for (let k = 0; k < N_ARKIT; k++) {
    const value = wa * a.arkit[k] + wb * b.arkit[k] + wc * c.arkit[k] + wd * d.arkit[k];
    out.arkit[k] = Math.min(1, Math.max(0, value));
  }
  for (let k = 0; k < 4; k++) {
    out.neck[k] = wa * a.neck[k] + wb * b.neck[k] + wc * c.neck[k] + wd * d.neck[k];
  }
  normalise(out.neck);
}

function approach(out, frame, weight) {
  if (weight < 1e-3) return;
  for (let k = 0; k < N_ARKIT; k++) out.arkit[k] += (frame.arkit[k] - out.arkit[k]) * weight;
  const dot = out.neck.reduce((sum, value, k) => sum + value * frame.neck[k], 0);
  const sign = dot < 0 ? -1 : 1;
  for (let k = 0; k < 4; k++) out.neck[k] += (sign * frame.neck[k] - out.neck[k]) * weight;
  normalise(out.neck);
}

function normalise(q) {
  const norm = Math.hypot(q[0], q[1], q[2], q[3]) || 1;
  for (let k = 0; k < 4; k++) q[k] /= norm;
}
