// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// From the face to the screen. Face units: the head is 2 high, x to the viewer's right (the robot's
// left), y down, z out of the screen; features lie on an egg, so that a turned head shows perspective.

const HALF_WIDTH = 1.45;
const HALF_HEIGHT = 1.3;
const DEPTH = 0.85;
const PIVOT_Y = 0.85; // the head turns about its neck
const PIVOT_Z = 0;
const CAMERA = 6.5;

export class Projection {
  constructor() {
    this.unit = 1;
    this.center = [0, 0];
    this.turn([0, 0, 0, 1], 1);
  }

  // Fit the head into a canvas, px.
  fit(width, height) {
    this.unit = Math.min(width / 2.7, height / 2.06);
    this.center = [width / 2, height / 2];
  }

  // Turn the head by a quaternion (x, y, z, w; REP-103), scaled by a gain.
  turn(q, gain) {
    const half = Math.acos(Math.min(1, Math.max(-1, q[3])));
    const sin = Math.sin(half);
    const scale = sin > 1e-6 ? Math.sin(half * gain) / sin : gain;
    const [x, y, z, w] = [q[0] * scale, q[1] * scale, q[2] * scale, Math.cos(half * gain)];
    this.m = [
      [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
      [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
      [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ];
    const [fx, fy, fz] = this.m.map((row) => row[0]); // where the nose points
    this.yaw = Math.atan2(fy, fx);
    this.pitch = Math.atan2(-fz, Math.hypot(fx, fy));
    this.roll = Math.atan2(this.m[2][1], this.m[2][2]);
  }

  // A point of space, in px: [x, y, scale].
  space(x, y, z) {
    const { m } = this;
    // REP-103: forward is z here, left is x, up is -y.
    const [forward, left, up] = [z - PIVOT_Z, x, PIVOT_Y - y];
    const near = m[0][0] * forward + m[0][1] * left + m[0][2] * up;
    const right = m[1][0] * forward + m[1][1] * left + m[1][2] * up;
    const high = m[2][0] * forward + m[2][1] * left + m[2][2] * up;
    const scale = (this.unit * CAMERA) / (CAMERA + DEPTH - PIVOT_Z - near);
    return [this.center[0] + right * scale, this.center[1] + (PIVOT_Y - high) * scale, scale];
  }

  // A point of the face, raised above its surface by `lift`.
  at(x, y, lift = 0) {
    const flat = 1 - (x / HALF_WIDTH) ** 2 - (y / HALF_HEIGHT) ** 2;
    return this.space(x, y, DEPTH * Math.sqrt(Math.max(0.02, flat)) + lift);
  }
}

// Draws paths in face units, through a projection.
export class Pen {
  constructor(context, projection) {
    this.context = context;
    this.projection = projection;
    this.shift = [0, 0];
  }

  at(x, y) {
    return this.projection.at(x + this.shift[0], y + this.shift[1]);
  }

  begin() {
    this.context.beginPath();
    return this;
  }

  move(x, y) {
    const p = this.at(x, y);
    this.context.moveTo(p[0], p[1]);
    return this;
  }

  line(x, y) {
    const p = this.at(x, y);
    this.context.lineTo(p[0], p[1]);
    return this;
  }

  curve(x1, y1, x2, y2, x, y) {
    const a = this.at(x1, y1);
    const b = this.at(x2, y2);
    const c = this.at(x, y);
    this.context.bezierCurveTo(a[0], a[1], b[0], b[1], c[0], c[1]);
    return this;
  }

  ellipse(x, y, rx, ry) {
    const k = 0.5523;
    return this.move(x + rx, y)
      .curve(x + rx, y + k * ry, x + k * rx, y + ry, x, y + ry)
      .curve(x - k * rx, y + ry, x - rx, y + k * ry, x - rx, y)
      .curve(x - rx, y - k * ry, x - k * rx, y - ry, x, y - ry)
      .curve(x + k * rx, y - ry, x + rx, y - k * ry, x + rx, y);
  }

  // A smooth line through points [[x, y], ...]; joined: continue the path.
  through(points, joined = false) {
    const p = points.map(([x, y]) => this.at(x, y));
    if (joined) this.context.lineTo(p[0][0], p[0][1]);
    else this.context.moveTo(p[0][0], p[0][1]);
    for (let i = 0; i + 1 < p.length; i++) {
      const a = p[Math.max(0, i - 1)];
      const b = p[i];
      const c = p[i + 1];
      const d = p[Math.min(p.length - 1, i + 2)];
      this.context.bezierCurveTo(
        b[0] + (c[0] - a[0]) / 6, b[1] + (c[1] - a[1]) / 6,
        c[0] - (d[0] - b[0]) / 6, c[1] - (d[1] - b[1]) / 6,
        c[0], c[1],
      );
    }
    return this;
  }

  fill(style) {
    this.context.fillStyle = style;
    this.context.fill();
    return this;
  }

  // width in face units
  stroke(style, width) {
    this.context.strokeStyle = style;
    this.context.lineWidth = width * this.projection.unit;
    this.context.lineCap = 'round';
    this.context.lineJoin = 'round';
    this.context.stroke();
    return this;
  }

  // Gradients of canvas are in px: these take face units.
  down(x, y0, y1, stops) {
    const a = this.at(x, y0);
    const b = this.at(x, y1);
    return withStops(this.context.createLinearGradient(a[0], a[1], b[0], b[1]), stops);
  }

  around(x, y, radius, stops, inner = 0) {
    const p = this.at(x, y);
    const unit = p[2];
    return withStops(
      this.context.createRadialGradient(p[0], p[1], inner * unit, p[0], p[1], radius * unit), stops,
    );
  }
}

function withStops(gradient, stops) {
  stops.forEach(([at, color]) => gradient.addColorStop(at, color));
  return gradient;
}
