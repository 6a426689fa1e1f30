// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// Eyes, lids and brows.

import { SKIN } from './paint_head.js';

const X = 0.455;
const Y = -0.065;
const WIDTH = 0.28;
const HEIGHT = 0.31;
const SHUT_Y = 0.11; // where the lids meet
const IRIS = 0.182;
const PUPIL = 0.108;
const BALL = 0.34; // radius about which the iris turns

export function paintEyes(pen, eyes, pupil) {
  eyes.forEach((eye, i) => {
    const side = i ? 1 : -1; // +1: the robot's left, at the viewer's right
    pen.shift = [side * X, Y];
    paintEye(pen, eye, side, pupil);
  });
  pen.shift = [0, 0];
}

// The curve of a lid from the inner to the outer corner, as [x, y] of a cubic's four points.
function lids(eye, side) {
  const shut = SHUT_Y - 0.06 * eye.squint;
  const upper = shut + (-HEIGHT * 0.94 - shut) * eye.upper;
  const lower = shut + (HEIGHT * 0.96 - shut) * eye.lower;
  // a shut lid hangs a little, that of a smile arches
  const droop = 0.055 * (1 - Math.min(1, eye.upper)) * (1 - 2.2 * eye.squint);
  const open = Math.min(1, eye.upper + 0.15);
  const level = 0.045 - 0.04 * Math.min(1, eye.squint);
  const corner = level + (1 - open) * (shut - level);
  const inner = -side * WIDTH;
  const outer = side * WIDTH;
  const over = (y) => corner + ((y - corner) * 4) / 3;
  const bulge = 0.97;
  const tilt = Math.min(1, eye.upper * 1.2);
  return {
    upper: [
      [inner, corner + 0.3 * eye.inner * tilt],
      [inner * bulge, over(upper) + droop + 1.5 * eye.inner * tilt],
      [outer * bulge, over(upper) + droop + 1.5 * eye.outer * tilt],
      [outer, corner + 0.3 * eye.outer * tilt],
    ],
    lower: [
      [outer, corner + 0.3 * eye.outer * tilt],
      [outer * bulge, over(lower) + droop],
      [inner * bulge, over(lower) + droop],
      [inner, corner + 0.3 * eye.inner * tilt],
    ],
  };
}

function trace(pen, [a, b, c, d], joined = false) {
  if (!joined) pen.move(a[0], a[1]);
  return pen.curve(b[0], b[1], c[0], c[1], d[0], d[1]);
}

function paintEye(pen, eye, side, pupil) {
  const { context } = pen;
  const { upper, lower } = lids(eye, side);
  // The hollow of the eye, and in it the lids.
  pen.begin().ellipse(0, 0, WIDTH * 1.28, HEIGHT * 1.24);
  pen.fill(pen.around(0, 0, HEIGHT * 1.25, [[0.55, `rgba(45, 110, 158, ${0.3 - 0.18 * eye.squint})`], [1, 'rgba(45, 110, 158, 0)']]));
  const [a, , , d] = upper;
  const top = a[1] - (HEIGHT * 4) / 3;
  pen.begin();
  trace(pen, upper);
  pen.curve(d[0], top, a[0], top, a[0], a[1]);
  pen.fill(pen.down(0, -HEIGHT, SHUT_Y, [[0, '#62add4'], [0.7, '#92d2eb'], [1, '#7fc5e3']]));

  if (eye.upper > 0.02 || eye.lower > 0.02) {
    context.save();
    pen.begin();
    trace(pen, upper);
    trace(pen, lower, true);
    context.closePath();
    pen.fill(pen.down(0, -HEIGHT, HEIGHT, [[0, '#d3e2ea'], [0.3, '#ffffff'], [0.8, '#ffffff'], [1, '#dfeaf0']]));
    context.clip();
    paintIris(pen, eye, pupil);
    // The upper lid throws a shadow on the eye.
    const [a, b, c, d] = upper;
    pen.begin();
    trace(pen, upper);
    pen.curve(c[0], c[1] + 0.09, b[0], b[1] + 0.09, a[0], a[1]);
    pen.fill('rgba(16, 44, 74, 0.26)');
    context.restore();
  }
  pen.begin();
  trace(pen, lower);
  pen.stroke('rgba(32, 84, 126, 0.5)', 0.016);
  paintLashes(pen, upper, eye, side);
}

// Thin at the corners and strong in between: the line that tells from afar how open an eye is.
function paintLashes(pen, upper, eye, side) {
  const [a, b, c, d] = upper;
  const thick = 0.052;
  const tail = side * 0.022 * (0.4 + 0.6 * Math.min(1, eye.upper));
  pen.begin().move(a[0], a[1]).curve(b[0], b[1] + 0.012, c[0], c[1] + 0.012, d[0], d[1]);
  pen.line(d[0] + tail, d[1] - 0.012);
  pen.curve(c[0], c[1] - thick * 1.2, b[0], b[1] - thick, a[0], a[1]);
  pen.context.closePath();
  pen.fill(SKIN.ink).stroke(SKIN.ink, 0.014);
}

function paintIris(pen, eye, pupil) {
  const { context } = pen;
  const [right, down] = eye.gaze;
  const x = BALL * Math.sin(right);
  const y = BALL * Math.sin(down) * 0.9;
  const rx = IRIS * (0.25 + 0.75 * Math.cos(right));
  const ry = IRIS * (0.25 + 0.75 * Math.cos(down));
  pen.begin().ellipse(x, y, rx, ry);
  pen.fill(pen.around(x, y + 0.05, IRIS * 1.15, [[0, '#ffce5c'], [0.5, '#f0982c'], [0.82, '#b4591a'], [1, '#5c2a10']]));
  pen.stroke('#37190b', 0.02);
  pen.begin().ellipse(x, y, PUPIL * pupil * (rx / IRIS), PUPIL * pupil * (ry / IRIS)).fill('#140c0a');
  context.globalAlpha = 0.96;
  pen.begin().ellipse(x - 0.074, y - 0.082, 0.058, 0.062).fill('#ffffff');
  context.globalAlpha = 0.7;
  pen.begin().ellipse(x + 0.078, y + 0.082, 0.027, 0.028).fill('#ffffff');
  context.globalAlpha = 1;
}

export function paintBrows(pen, brows) {
  brows.forEach((brow, i) => {
    const side = i ? 1 : -1;
    const points = [
      [0.25 - brow.together, -0.535 - brow.inner, 0.006],
      [0.35 - 0.6 * brow.together, -0.568 - 0.6 * brow.inner - 0.4 * brow.middle, 0.017],
      [0.475, -0.586 - brow.middle, 0.018],
      [0.59, -0.565 - 0.5 * brow.middle - 0.5 * brow.outer, 0.01],
      [0.68, -0.515 - brow.outer, 0.001],
    ];
    const above = points.map(([x, y, half]) => [side * x, y - half]);
    const below = points.map(([x, y, half]) => [side * x, y + half]).reverse();
    pen.begin().through(above).through(below, true);
    pen.context.closePath();
    pen.fill(SKIN.ink);
    pen.stroke(SKIN.ink, 0.055); // rounds the ends
  });
}
