// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// A light shell with ears, and in it a face plate with cheeks and a nose. The plate is a blue that no
// person has: it takes dark and light features alike, which is what can be read from across a room.

const SHELL = { width: 1.26, height: 1.04, squareness: 2.7, y: 0, z: -0.1 };
const PLATE = { width: 1.08, height: 0.9, squareness: 2.75, y: 0.01, z: 0.12 }; // so little before the shell that it stays on it
const EAR = { x: 1.24, y: -0.02, z: -0.12, radius: 0.27 };

export const SKIN = {
  light: '#b6e6f5',
  plain: '#86cde9',
  shade: '#5aa9d2',
  deep: '#3f8abb',
  ink: '#173049',
};

// attention: 0..1, how much the ears glow for somebody who speaks
export function paintHead(pen, parts, attention) {
  const { projection } = pen;
  paintEars(pen, attention);
  const jaw = parts.mouth.drop;
  const puff = parts.cheeks[0].puff;
  const [x, y, unit] = projection.space(0, 0, SHELL.z);
  const shell = pen.context.createRadialGradient(
    x - 0.45 * unit, y - 0.8 * unit, 0, x - 0.1 * unit, y - 0.1 * unit, 1.75 * unit,
  );
  [[0, '#ffffff'], [0.45, '#f3f5f4'], [0.72, '#d3dde3'], [1, '#8ea3b3']].forEach(([at, color]) => shell.addColorStop(at, color));
  // A ring only: what the plate covers need not be drawn.
  pen.begin();
  trace(pen, SHELL, 0.7 * jaw, puff);
  trace(pen, PLATE, jaw, puff);
  pen.context.fillStyle = shell;
  pen.context.fill('evenodd');
  pen.begin();
  trace(pen, PLATE, jaw, puff);
  pen.fill(pen.around(-0.28, -0.5, 1.75, [[0, SKIN.light], [0.42, SKIN.plain], [0.82, SKIN.shade], [1, SKIN.deep]]));
  // The plate lies a little below the shell.
  pen.stroke('rgba(28, 72, 110, 0.42)', 0.022);
}

function trace(pen, { width, height, squareness, y: y0, z }, jaw, puff) {
  const { context, projection } = pen;
  const n = 72;
  const points = [];
  // A turned egg is narrower, as it is less deep than wide.
  const narrow = Math.hypot(Math.cos(projection.yaw), 0.82 * Math.sin(projection.yaw));
  const cos = Math.cos(projection.roll);
  const sin = Math.sin(projection.roll);
  const [cx, cy, unit] = projection.space(0, y0, z);
  for (let i = 0; i < n; i++) {
    const angle = (2 * Math.PI * i) / n;
    const c = Math.cos(angle);
    const s = Math.sin(angle);
    const below = Math.max(0, s);
    let x = width * Math.sign(c) * Math.abs(c) ** (2 / squareness) * narrow;
    let y = height * Math.sign(s) * Math.abs(s) ** (2 / squareness);
    x *= 1 - 0.07 * below ** 1.5 - 0.02 * jaw * below + 0.05 * puff * Math.exp(-(((y - 0.4) / 0.3) ** 2));
    y += 0.26 * jaw * below ** 3;
    // roll: the robot's left side up is the viewer's right side up
    points.push([cx + unit * (x * cos + y * sin), cy + unit * (y * cos - x * sin)]);
  }
  // Round through the middles: corners would show on a large screen.
  const middle = (i) => [0, 1].map((k) => (points[i % n][k] + points[(i + 1) % n][k]) / 2);
  context.moveTo(...middle(0));
  for (let i = 1; i <= n; i++) context.quadraticCurveTo(...points[i % n], ...middle(i));
  context.closePath();
}

function paintEars(pen, attention) {
  const { context, projection } = pen;
  const cos = Math.cos(projection.roll);
  for (const side of [-1, 1]) {
    // Seen from the front an ear shows its edge; a turned head shows its face.
    const [x, y, unit] = projection.space(side * EAR.x, EAR.y, EAR.z);
    const turned = Math.max(0, -side * Math.sin(projection.yaw));
    const disc = (radius, depth) => {
      context.beginPath();
      context.ellipse(x, y, radius * unit * depth, radius * unit, Math.acos(Math.min(1, cos)) * -Math.sign(projection.roll), 0, 2 * Math.PI);
      return pen;
    };
    const depth = 0.46 + 0.5 * turned;
    disc(EAR.radius, depth).fill('#9fb2c0');
    disc(EAR.radius * 0.86, depth * 0.96).fill('#dfe7eb');
    disc(EAR.radius * 0.7, depth * 0.94).fill(mix([52, 92, 124], [96, 240, 206], attention));
    if (attention > 0.02) {
      const glow = context.createRadialGradient(x, y, 0, x, y, 0.55 * unit);
      glow.addColorStop(0, `rgba(96, 240, 206, ${0.4 * attention})`);
      glow.addColorStop(1, 'rgba(96, 240, 206, 0)');
      context.beginPath();
      context.arc(x, y, 0.55 * unit, 0, 2 * Math.PI);
      pen.fill(glow);
    }
  }
}

function mix(from, to, s) {
  return `rgb(${from.map((value, k) => Math.round(value + (to[k] - value) * s)).join(',')})`;
}

export function paintCheeks(pen, cheeks) {
  cheeks.forEach(({ raise, puff }, i) => {
    const side = i ? 1 : -1;
    const x = side * 0.76;
    const y = 0.28 - 0.05 * raise;
    const size = 0.21 + 0.03 * raise + 0.05 * puff;
    pen.begin().ellipse(x, y, size * 1.15, size);
    const away = Math.max(0, side * Math.sin(pen.projection.yaw)); // round the edge of a turned head
    const strength = (0.34 + 0.34 * raise + 0.15 * puff) * Math.max(0, 1 - 1.6 * away);
    pen.fill(pen.around(x, y, size * 1.1, [[0, `rgba(255, 122, 140, ${strength})`], [1, 'rgba(255, 122, 140, 0)']]));
  });
}

export function paintNose(pen, sneers) {
  const lift = 0.02 * (sneers[0] + sneers[1]);
  const { context } = pen;
  const [x, y, unit] = pen.projection.at(0, 0.17 - lift, 0.14);
  const shine = context.createRadialGradient(x - 0.03 * unit, y - 0.035 * unit, 0, x, y, 0.11 * unit);
  shine.addColorStop(0, 'rgba(236, 252, 255, 0.95)');
  shine.addColorStop(0.5, 'rgba(160, 217, 240, 0.75)');
  shine.addColorStop(0.85, 'rgba(84, 160, 203, 0.55)');
  shine.addColorStop(1, 'rgba(84, 160, 203, 0)');
  context.beginPath();
  context.ellipse(x, y, 0.11 * unit, 0.092 * unit, 0, 0, 2 * Math.PI);
  pen.fill(shine);
  sneers.forEach((sneer, i) => {
    if (sneer < 0.05) return;
    const side = i ? 1 : -1;
    pen.begin().move(side * 0.09, 0.0).curve(side * 0.12, 0.04, side * 0.14, 0.08, side * 0.15, 0.13);
    pen.stroke(`rgba(47, 111, 159, ${0.8 * sneer})`, 0.022);
  });
}
