// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// What was shown when, and what was said when: for curves, and to measure whether lips are in time.

const KEPT_MS = 12000;
const GRID_MS = 10;
const LAGS_MS = 250; // lags tried either way
const SPAN_MS = 6000; // of what is compared
// The most that is kept. A hidden page draws nothing and so clears nothing away, a clock may stand still.
const MAX_FRAMES = 3000;
const MAX_PLANS = 50;
const MAX_STATES = 1500;
const MAX_LEVELS = 6000;

export class Log {
  constructor() {
    this.clear();
  }

  clear() {
    this.frames = []; // {at, yaw, pitch, roll, jaw, opening, elapsed}
    this.levels = []; // {at, span, db}
    this.states = []; // {at, state, user, agent}
    this.plans = []; // {at, lead, span}
    this.newest = -1; // number of the last plan
    this.n = { frames: 0, drawn: 0, slow: 0, plans: 0, late: 0 };
  }

  frame(at, head, jaw, opening, elapsed, isNew) {
    this.n.frames += 1;
    this.n.drawn += isNew ? 1 : 0;
    this.n.slow += elapsed > 40 ? 1 : 0;
    if (!Number.isFinite(at)) return;
    const { frames } = this;
    if (frames.length && at < frames[frames.length - 1].at - 50) this.clear(); // the clock went back
    this.frames.push({ at, yaw: head.yaw, pitch: head.pitch, roll: head.roll, jaw, opening, elapsed });
    bound(this.frames, MAX_FRAMES);
    for (const list of [this.frames, this.levels, this.states]) {
      let old = 0;
      while (old < list.length && list[old].at < at - KEPT_MS) old++;
      if (old > 50) list.splice(0, old);
    }
  }

  plan(message, now) {
    const first = message.frames[0];
    const last = message.frames[message.frames.length - 1];
    this.n.plans += 1;
    this.newest = message.plan;
    if (first.at < now) this.n.late += 1;
    this.plans.push({ at: now, lead: first.at - now, span: last.at - first.at, delay: now - message.sent });
    bound(this.plans, MAX_PLANS);
  }

  level({ starts, spans, levels }) {
    levels.forEach((db, i) => {
      // What is announced later replaces what was said before for the same time.
      while (this.levels.length && this.levels[this.levels.length - 1].at > starts[i] - 1) this.levels.pop();
      this.levels.push({ at: starts[i], span: spans[i], db });
    });
    bound(this.levels, MAX_LEVELS);
  }

  state(message) {
    this.states.push({ at: message.stamp_ms, state: message.state, user: message.user_db, agent: message.agent_db });
    bound(this.states, MAX_STATES);
  }

  // By how much the mouth on the screen follows the sound, ms (negative: it leads), and how well
  // (Pearson); null where nothing was said. The sound is where its stamps say, the mouth where it was
  // drawn for the moment at which the screen shows it.
  lips() {
    const { frames } = this;
    if (frames.length < 100) return null;
    const end = frames[frames.length - 1].at;
    const begin = Math.max(frames[0].at, end - SPAN_MS);
    const n = Math.floor((end - begin) / GRID_MS);
    const grid = Array.from({ length: n }, (_, k) => begin + k * GRID_MS);
    const sound = sampled(this.levels, grid, (level, _, at) => (at < level.at + level.span + 1 ? 10 ** (level.db / 20) : 0));
    const mouth = sampled(frames, grid, (frame, next, at) => {
      if (!next) return frame.opening;
      return frame.opening + ((next.opening - frame.opening) * (at - frame.at)) / (next.at - frame.at);
    });
    if (Math.max(...sound) < 0.003 || Math.max(...mouth) < 0.005) return null;
    const k = LAGS_MS / GRID_MS;
    const scores = [];
    for (let lag = -k; lag <= k; lag++) scores.push(pearson(mouth, sound, lag, k));
    const best = scores.reduce((b, score, i) => (score > scores[b] ? i : b), 0);
    let peak = best - k;
    if (best > 0 && best < 2 * k) {
      const [a, b, c] = [scores[best - 1], scores[best], scores[best + 1]];
      if (a - 2 * b + c < 0) peak += (a - c) / (2 * (a - 2 * b + c));
    }
    return { lag: peak * GRID_MS, correlation: scores[best] };
  }
}

// Drop the oldest of a list that has grown too long.
function bound(list, most) {
  if (list.length > most) list.splice(0, list.length - most);
}

// What a list in order of time says at each of a grid's times; 0 before its first item.
function sampled(list, grid, value) {
  let i = 0;
  return grid.map((at) => {
    while (i + 1 < list.length && list[i + 1].at <= at) i++;
    return list[i] && list[i].at <= at ? value(list[i], list[i + 1], at) : 0;
  });
}

function pearson(follower, leader, lag, margin) {
  let [sf, sl, sff, sll, sfl, n] = [0, 0, 0, 0, 0, 0];
  for (let i = margin; i < leader.length - margin; i++) {
    const f = follower[i + lag];
    const l = leader[i];
    sf += f; sl += l; sff += f * f; sll += l * l; sfl += f * l; n += 1;
  }
  const spread = Math.sqrt((sff - (sf * sf) / n) * (sll - (sl * sl) / n));
  return spread > 0 ? (sfl - (sf * sl) / n) / spread : 0;
}
