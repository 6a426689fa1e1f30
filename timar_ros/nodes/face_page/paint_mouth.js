// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// Lips, teeth and tongue.

const Y = 0.475;
const N = 8; // points from a corner to the middle
const LIP = { light: '#8fcdea', plain: '#5fa6d0', dark: '#4689bb', edge: 'rgba(95, 172, 214, 0.25)' };
const INK = '#3a1630';
const CAVE = '#431026';

export function paintMouth(pen, mouth) {
  pen.shift = [mouth.x, Y];
  const edges = lipEdges(mouth);
  const { context } = pen;
  const isOpen = mouth.upper + mouth.lower + mouth.sides[0].up + mouth.sides[1].up
    + mouth.sides[0].down + mouth.sides[1].down > 0.008;
  if (isOpen) {
    context.save();
    pen.begin().through(edges.upperInner).through(edges.lowerInner.slice().reverse(), true);
    context.closePath();
    pen.fill(CAVE);
    context.clip();
    paintInside(pen, mouth, edges);
    context.restore();
  }
  paintLip(pen, edges.lowerInner, edges.lowerOuter, [[0, LIP.plain], [0.4, LIP.light], [1, LIP.edge]]);
  paintLip(pen, edges.upperOuter, edges.upperInner, [[0, LIP.plain], [1, LIP.dark]]);
  if (isOpen) {
    pen.begin().through(edges.upperInner).through(edges.lowerInner.slice().reverse(), true);
    context.closePath();
    pen.stroke(INK, 0.018);
  }
  // Where the lips meet: what shows from afar.
  const line = Math.max(0, 1 - (mouth.upper + mouth.lower) / 0.06);
  if (line > 0) {
    pen.begin().through(edges.upperInner).stroke(`rgba(58, 22, 48, ${line})`, 0.03);
  }
  if (mouth.tongue > 0.02) paintTongueOut(pen, mouth, edges);
  pen.shift = [0, 0];
}

// The four edges of the lips, from the viewer's left corner to the right one.
function lipEdges(mouth) {
  const edges = { upperOuter: [], upperInner: [], lowerInner: [], lowerOuter: [] };
  for (let i = -N; i <= N; i++) {
    // closer together at the corners, where lips curve
    const u = Math.sin((Math.PI / 2) * (i / N));
    const left = 0.5 + 0.5 * u;
    const of = (name) => mouth.sides[0][name] * (1 - left) + mouth.sides[1][name] * left;
    const own = u < 0 ? mouth.sides[0] : mouth.sides[1];
    const a = Math.abs(u);
    const arch = (1 - a * a) ** (0.62 - 0.12 * mouth.round);
    const x = u * own.width + 0.55 * mouth.jawX * arch;
    const base = own.corner * a ** 2 + (mouth.middle + 0.015) * (1 - a ** 2);
    const thin = 1 - of('tight');
    const flesh = Math.sqrt(Math.max(0, 1 - a ** 2.6));
    const bow = 1 - 0.24 * Math.exp(-((u / 0.16) ** 2)) * (1 - mouth.round) - 0.25 * a * a;
    const lift = of('up') * (1 - a ** 3);
    const sink = of('down') * (1 - a ** 3);
    const upper = base - mouth.upper * arch - lift;
    const lower = base + mouth.lower * arch + sink;
    edges.upperInner.push([x, upper]);
    edges.lowerInner.push([x, lower]);
    edges.upperOuter.push([x * 1.03, upper - mouth.upperLip * thin * flesh * bow * 1.25 - 0.004]);
    edges.lowerOuter.push([x * 1.02, lower + mouth.lowerLip * thin * flesh + 0.004]);
  }
  return edges;
}

function paintLip(pen, above, below, stops) {
  const middle = above.length >> 1;
  pen.begin().through(above).through(below.slice().reverse(), true);
  pen.context.closePath();
  pen.fill(pen.down(0, above[middle][1], below[middle][1], stops));
}

function paintInside(pen, mouth, edges) {
  const { context } = pen;
  const width = Math.max(mouth.sides[0].width, mouth.sides[1].width);
  const top = edges.upperInner[N][1];
  const bottom = edges.lowerInner[N][1];
  // tongue: lies on the lower jaw
  const floor = mouth.middle + 0.015 + mouth.lower;
  const tongueY = floor + 0.02 + 0.04 * mouth.round;
  pen.begin().ellipse(0.7 * mouth.jawX, tongueY, width * 0.62, 0.05 + 0.3 * mouth.lower);
  pen.fill(pen.down(0, tongueY - 0.05 - 0.3 * mouth.lower, tongueY + 0.03, [[0, '#e8808c'], [1, '#a33f55']]));
  // lower teeth: their edge goes with the jaw, and shows where the lip goes further
  pen.begin().move(-width * 0.66, floor + 0.2).through([
    [-width * 0.66, floor + 0.026], [-width * 0.3, floor + 0.008], [0, floor + 0.004],
    [width * 0.3, floor + 0.008], [width * 0.66, floor + 0.026],
  ], true).line(width * 0.66, floor + 0.2);
  context.closePath();
  pen.fill('#e9eef0');
  // upper teeth: stay where the head is
  const edge = 0.016 - 0.09 * mouth.round; // hidden by lips that are put forward
  pen.begin().move(-width * 0.86, -0.3).through([
    [-width * 0.86, edge - 0.045], [-width * 0.45, edge], [0, edge + 0.008],
    [width * 0.45, edge], [width * 0.86, edge - 0.045],
  ], true).line(width * 0.86, -0.3);
  context.closePath();
  pen.fill(pen.down(0, top, Math.max(edge, top + 0.02), [[0, '#cfd9de'], [0.35, '#ffffff'], [1, '#ffffff']]));
  // the lip's shadow inside
  pen.begin().through(edges.upperInner).stroke('rgba(30, 4, 14, 0.35)', Math.min(0.05, 0.3 * (bottom - top)));
}

function paintTongueOut(pen, mouth, edges) {
  const top = edges.lowerInner[N][1] - 0.02;
  const length = 0.06 + 0.2 * mouth.tongue;
  const width = 0.13;
  pen.begin().move(-width, top).curve(-width, top + length * 1.25, width, top + length * 1.25, width, top);
  pen.context.closePath();
  pen.fill(pen.down(0, top, top + length, [[0, '#c9566a'], [1, '#ec8490']]));
}
