// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// The face on a canvas: one call draws one moment of it.

import { paintBrows, paintEyes } from './paint_eyes.js';
import { paintCheeks, paintHead, paintNose } from './paint_head.js';
import { paintMouth } from './paint_mouth.js';
import { Pen, Projection } from './project.js';
import { rig } from './rig.js';

const MAX_PIXELS = 2.2e6; // more does not show from where one talks to a robot
const SLOW_MS = 13;

export class Face {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.projection = new Projection();
    this.pen = new Pen(this.context, this.projection);
    this.quality = 1;
    this.changedAt = performance.now();
    this.paintMs = 0;
    this.drawn = null; // what is on the canvas
    this.opening = 0;
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const full = clientWidth * clientHeight * devicePixelRatio ** 2;
    const ratio = devicePixelRatio * Math.min(1, Math.sqrt(MAX_PIXELS / full)) * this.quality;
    const width = Math.max(1, Math.round(clientWidth * ratio));
    const height = Math.max(1, Math.round(clientHeight * ratio));
    if (width !== this.canvas.width || height !== this.canvas.height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.drawn = null;
    }
    this.projection.fit(width, height);
  }

  // Draw {neck, arkit}, a gaze [right, down] rad, and attention 0..1, unless that is drawn already.
  draw(pose, gaze, attention, headGain) {
    const values = [...pose.arkit, ...pose.neck, ...gaze, attention, headGain];
    if (this.drawn && values.every((value, k) => Math.abs(value - this.drawn[k]) < 2e-4)) return false;
    this.drawn = values;
    const started = performance.now();
    const parts = rig(pose.arkit, gaze);
    const { pen, projection, canvas } = this;
    projection.turn(pose.neck, headGain);
    pen.context.clearRect(0, 0, canvas.width, canvas.height);
    paintHead(pen, parts, attention);
    paintCheeks(pen, parts.cheeks);
    paintEyes(pen, parts.eyes, 1 + 0.1 * parts.eyes[0].wide);
    paintBrows(pen, parts.brows);
    paintNose(pen, parts.nose);
    paintMouth(pen, parts.mouth);
    this.opening = parts.mouth.upper + parts.mouth.lower;
    this.spend(performance.now() - started);
    return true;
  }

  // A machine without a graphics processor draws fewer pixels rather than fewer frames.
  spend(ms) {
    this.paintMs += 0.05 * (ms - this.paintMs);
    const since = performance.now() - this.changedAt;
    if (this.paintMs > SLOW_MS && this.quality > 0.4 && since > 1000) this.change(0.8);
    if (this.paintMs < SLOW_MS / 4 && this.quality < 1 && since > 20000) this.change(1.25);
  }

  change(factor) {
    this.quality = Math.min(1, this.quality * factor);
    this.changedAt = performance.now();
    this.resize();
  }
}
