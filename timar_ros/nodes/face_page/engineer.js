// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// The engineer's view: what was shown, what is about to be, who speaks, and how late everything is.

import { AT } from './arkit.js';

const PAST_MS = 7000;
const AHEAD_MS = 2500;
const DRAW_MS = 50;
const FIGURES_MS = 500;
const WHO = ['silence', 'user', 'robot', 'both'];
const WHO_CLASS = ['', 'user', 'agent', 'both'];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const COLORS = {
  grid: 'rgba(160, 205, 235, 0.13)',
  text: css('--faint'),
  user: css('--user'),
  agent: css('--agent'),
};
const DEGREES = 180 / Math.PI;

const CURVES = [
  { title: 'yaw °, left +', color: '#7fb8ff', range: 25, value: (f) => f.yaw * DEGREES },
  { title: 'pitch °, down +', color: '#c79bff', range: 20, value: (f) => f.pitch * DEGREES },
  { title: 'roll °', color: '#8fe08a', range: 15, value: (f) => f.roll * DEGREES },
  { title: 'jaw open', color: '#ff8fa3', range: 1, isPositive: true, value: (f) => f.jaw },
];

const MEANINGS = {
  frames: 'drawn or looked at, a second',
  drawing: 'what a drawn frame costs',
  slow: 'frames that came more than 40 ms after the one before',
  plans: 'received a second',
  lead: 'how far ahead of its first frame a plan came: the least of the last 3 s',
  late: 'plans that came after their first frame was due',
  delivery: 'from the node to here: the most of the last 3 s',
  'round trip': 'of a ping to the node',
  clock: "how fast the node's clock goes",
  lips: 'by how much the mouth follows the voice; negative: it leads',
  'lips r': 'how well mouth and voice agree, at that lag',
  blinks: 'whose they are, and how many',
};

export class Engineer {
  constructor(document, parts) {
    this.parts = parts;
    this.canvas = document.getElementById('curves');
    this.context = this.canvas.getContext('2d');
    this.who = document.getElementById('who');
    this.linkText = document.getElementById('link');
    this.list = document.getElementById('figures');
    this.isOn = false;
    this.drawnAt = this.figuresAt = -Infinity;
    this.counted = null; // {at, ...}: what the log had counted when figures were last shown
  }

  // The figures below the curves take their place when they are first written.
  resize() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((px) => Math.round(px * devicePixelRatio));
    if (width !== canvas.width || height !== canvas.height) Object.assign(canvas, { width, height });
  }

  draw(now, at, state) {
    if (!this.isOn || now - this.drawnAt < DRAW_MS) return;
    this.drawnAt = now;
    this.who.textContent = WHO[state.state] ?? '–';
    this.who.className = WHO_CLASS[state.state] ?? '';
    const { isUp, why } = this.parts.link;
    this.linkText.textContent = isUp ? 'connected' : ['no connection', why].filter(Boolean).join(': ');
    this.linkText.classList.toggle('is-lost', !isUp);
    this.drawCurves(at);
    if (now - this.figuresAt > FIGURES_MS) {
      this.showFigures(now, at);
      this.figuresAt = now;
    }
  }

  drawCurves(at) {
    this.resize();
    const { context: c, canvas } = this;
    const ratio = devicePixelRatio;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    const width = canvas.width / ratio;
    const height = canvas.height / ratio;
    c.clearRect(0, 0, width, height);
    if (!Number.isFinite(at)) return;
    const x = (t) => ((t - at + PAST_MS) / (PAST_MS + AHEAD_MS)) * width;
    const rows = CURVES.length + 2;
    const row = height / rows;
    c.font = '12px system-ui, sans-serif';
    c.lineWidth = 1;
    c.fillStyle = COLORS.grid;
    for (let t = Math.ceil((at - PAST_MS) / 1000) * 1000; t < at + AHEAD_MS; t += 1000) c.fillRect(x(t), 0, 1, height);
    CURVES.forEach((curve, i) => this.drawCurve(curve, i * row, row, x, at));
    this.drawLevels(CURVES.length * row, row, x, at);
    this.drawWho((CURVES.length + 1) * row, row, x, at);
    c.fillStyle = 'rgba(255, 255, 255, 0.5)';
    c.fillRect(x(at), 0, 1, height);
  }

  drawCurve({ title, color, range, isPositive, value }, top, height, x, at) {
    const { context: c } = this;
    const { log, track } = this.parts;
    const low = isPositive ? 0 : -range;
    const y = (v) => top + height - 6 - ((Math.max(low, Math.min(range, v)) - low) / (range - low)) * (height - 12);
    c.fillStyle = COLORS.grid;
    c.fillRect(0, y(0), c.canvas.width, 1);
    const path = (points) => {
      c.beginPath();
      points.forEach(([px, py], i) => (i ? c.lineTo(px, py) : c.moveTo(px, py)));
      c.stroke();
    };
    c.strokeStyle = color;
    c.lineWidth = 1.6;
    c.setLineDash([]);
    path(log.frames.filter((f) => f.at > at - PAST_MS).map((f) => [x(f.at), y(value(f))]));
    c.setLineDash([3, 4]);
    c.globalAlpha = 0.75;
    path(track.frames.filter((f) => f.at >= at && f.at < at + AHEAD_MS).map((f) => [x(f.at), y(value(planned(f)))]));
    c.setLineDash([]);
    c.globalAlpha = 1;
    c.fillStyle = color;
    c.fillText(title, 4, top + 14);
    c.fillStyle = COLORS.text;
    c.fillText(`±${range}`.replace('±', isPositive ? '' : '±'), 4, top + 29);
  }

  drawLevels(top, height, x, at) {
    const { context: c } = this;
    const { log } = this.parts;
    const y = (db) => top + height - 4 - (Math.max(0, Math.min(60, db + 60)) / 60) * (height - 8);
    const stroke = (points, color) => {
      c.strokeStyle = color;
      c.lineWidth = 1.4;
      c.beginPath();
      points.forEach(([px, py], i) => (i ? c.lineTo(px, py) : c.moveTo(px, py)));
      c.stroke();
    };
    const inView = (item) => item.at > at - PAST_MS && item.at < at + AHEAD_MS;
    stroke(log.states.filter(inView).map((s) => [x(s.at), y(s.user)]), COLORS.user);
    let last = null;
    const points = [];
    for (const level of log.levels.filter(inView)) {
      if (last && level.at > last.at + last.span + 1) points.push([x(last.at + last.span), y(-60)], [x(level.at), y(-60)]);
      points.push([x(level.at), y(level.db)]);
      last = level;
    }
    stroke(points, COLORS.agent);
    c.fillStyle = COLORS.user;
    c.fillText('user', 4, top + 14);
    c.fillStyle = COLORS.agent;
    c.fillText('robot, −60..0 dB', 36, top + 14);
  }

  drawWho(top, height, x, at) {
    const { context: c } = this;
    const { states } = this.parts.log;
    const lane = (height - 26) / 2;
    states.forEach((s, i) => {
      const until = i + 1 < states.length ? Math.min(states[i + 1].at, s.at + 400) : Math.min(at, s.at + 400);
      if (until < at - PAST_MS) return;
      [COLORS.user, COLORS.agent].forEach((color, k) => {
        if (!(s.state & (k + 1))) return;
        c.fillStyle = color;
        c.fillRect(x(s.at), top + 20 + k * (lane + 3), Math.max(1, x(until) - x(s.at) + 1), lane);
      });
    });
    c.fillStyle = COLORS.text;
    c.fillText('who speaks', 4, top + 14);
  }

  showFigures(now, at) {
    const { log, clock, face, life } = this.parts;
    const plans = log.plans.filter((plan) => plan.at > at - 3000);
    const lead = plans.length ? Math.min(...plans.map((plan) => plan.lead)) : NaN;
    const delay = plans.length ? Math.max(...plans.map((plan) => plan.delay)) : NaN;
    const lips = log.lips();
    const before = this.counted;
    // The log counts from 0 again when the clock was set or the node is another one.
    const isComparable = before && now > before.at && log.n.frames >= before.frames;
    const rate = (name, digits) => {
      if (!isComparable) return '–';
      return `${((log.n[name] - before[name]) / ((now - before.at) / 1000)).toFixed(digits)} /s`;
    };
    const ms = (value) => (Number.isFinite(value) ? `${value.toFixed(Math.abs(value) < 10 ? 1 : 0)} ms` : '–');
    const figures = {
      frames: rate('frames', 0),
      drawing: ms(face.paintMs),
      slow: `${log.n.slow}`,
      plans: rate('plans', 1),
      lead: ms(lead),
      late: `${log.n.late}`,
      delivery: ms(delay),
      'round trip': ms(clock.roundTrip),
      clock: clockText(clock),
      lips: lips ? `${lips.lag > 0 ? '+' : ''}${lips.lag.toFixed(0)} ms` : '–',
      'lips r': lips ? lips.correlation.toFixed(2) : '–',
      blinks: at <= life.modelBlinksUntil ? 'of the motion' : `own, ${life.n.blinks}`,
    };
    this.counted = { at: now, ...log.n };
    this.list.replaceChildren(...Object.entries(figures).map(([name, value]) => {
      const row = Object.assign(document.createElement('div'), { title: MEANINGS[name] });
      row.append(Object.assign(document.createElement('dt'), { textContent: name }));
      row.append(Object.assign(document.createElement('dd'), { textContent: value }));
      return row;
    }));
  }
}

function clockText(clock) {
  if (!clock.isKnown) return '–';
  return clock.rate === 1 ? 'real time' : `× ${clock.rate.toFixed(2)}`;
}

// A frame of a plan in the terms of the log.
function planned({ neck: [x, y, z, w], arkit }) {
  return {
    yaw: Math.atan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z)),
    pitch: Math.asin(Math.max(-1, Math.min(1, 2 * (w * y - x * z)))),
    roll: Math.atan2(2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    jaw: arkit[AT.jawOpen],
  };
}
