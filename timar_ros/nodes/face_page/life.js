// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// What keeps a face alive when its motion says nothing about the eyes: blinks, and eyes that hold on
// to whom they look at, with the small jumps that living eyes make. Never moves the head. What the
// motion does say wins.

import { AT } from './arkit.js';
import { smooth } from './track.js';

const BLINK_MS = { close: 75, shut: 35, open: 150 };
// How long own blinks and own gaze wait after the model's.
const BLINKS_LAST_MS = 12000;
const GAZE_LASTS_MS = 1500;
const FULL_GAZE_RAD = 0.6; // an eyeLook blendshape of 1
const SACCADE_MS = 45;
const BLINKS = [AT.eyeBlinkLeft, AT.eyeBlinkRight];
const LOOKS = ['Down', 'In', 'Out', 'Up'].flatMap((way) => [AT[`eyeLook${way}Left`], AT[`eyeLook${way}Right`]]);

export class Life {
  // random: () => [0, 1). Without life (a test, a picture), only the motion itself is shown.
  constructor(random = Math.random, isOn = true) {
    this.random = random;
    this.isOn = isOn;
    this.modelBlinksUntil = -Infinity;
    this.modelGazesUntil = -Infinity;
    this.blinkAt = NaN;
    this.isDouble = false;
    this.from = [0, 0];
    this.to = [0, 0];
    this.jumpAt = 0;
    this.nextJump = 0;
    this.ownGaze = 1; // 0: the model's
    this.lastAt = NaN;
    this.n = { blinks: 0, saccades: 0 };
  }

  // See what a plan says about the eyes; frames and `at` are of the node's clock.
  see(frames) {
    let least = 1;
    let most = 0;
    let look = 0;
    for (const { arkit } of frames) {
      const blink = Math.max(arkit[BLINKS[0]], arkit[BLINKS[1]]);
      least = Math.min(least, blink);
      most = Math.max(most, blink);
      for (const k of LOOKS) look = Math.max(look, arkit[k]);
    }
    const end = frames.length ? frames[frames.length - 1].at : -Infinity;
    if (most > 0.4 && most - least > 0.25) this.modelBlinksUntil = end + BLINKS_LAST_MS;
    if (look > 0.04) this.modelGazesUntil = end + GAZE_LASTS_MS;
  }

  forget() {
    this.modelBlinksUntil = this.modelGazesUntil = -Infinity;
  }

  // Add life to a pose. local: performance.now(); at: the node's clock; head: {yaw, pitch} as shown, rad.
  // Returns the gaze in the head, rad, to the viewer's right and down.
  animate(pose, local, at, head) {
    const { arkit } = pose;
    const model = modelGaze(arkit);
    if (!this.isOn) return model;
    if (Number.isNaN(this.lastAt)) this.start(local);
    const elapsed = Math.min(100, Math.max(0, local - this.lastAt));
    this.lastAt = local;
    this.blink(arkit, local, at);
    const wanted = at <= this.modelGazesUntil ? 0 : 1;
    const step = elapsed / 400;
    this.ownGaze += Math.max(-step, Math.min(step, wanted - this.ownGaze));
    const own = this.gaze(local, head);
    return [0, 1].map((k) => model[k] + (own[k] - 0) * this.ownGaze);
  }

  start(local) {
    this.lastAt = local;
    this.blinkAt = local + 1200 + 2500 * this.random();
    this.nextJump = local + 600 * this.random();
  }

  blink(arkit, local, at) {
    if (at <= this.modelBlinksUntil) {
      this.blinkAt = Math.max(this.blinkAt, local + 1000);
      return;
    }
    const phase = local - this.blinkAt;
    if (phase < 0) return;
    const { close, shut, open } = BLINK_MS;
    if (phase > close + shut + open) {
      this.n.blinks += 1;
      // People blink every 2 to 8 s, most often after 3, and one in ten blinks twice.
      const pause = this.isDouble || this.random() > 0.1 ? 1900 + 2100 * -Math.log(1 - this.random()) : 90;
      this.isDouble = pause < 100;
      this.blinkAt = local + Math.min(pause, 9000);
      return;
    }
    const lid = phase < close + shut ? smooth(phase / close) : 1 - smooth((phase - close - shut) / open);
    for (const k of BLINKS) arkit[k] = Math.max(arkit[k], lid);
  }

  // Eyes stay on the viewer while the head turns, and jump a little where they look.
  gaze(local, head) {
    if (local >= this.nextJump) {
      this.from = this.to;
      this.jumpAt = local;
      const angle = 2 * Math.PI * this.random();
      const size = 0.012 + 0.03 * this.random() ** 2 + (this.random() < 0.12 ? 0.05 : 0);
      this.to = [1.3 * size * Math.cos(angle), 0.7 * size * Math.sin(angle)];
      this.nextJump = local + 350 + 1300 * -Math.log(1 - this.random());
      this.n.saccades += 1;
    }
    const s = smooth((local - this.jumpAt) / SACCADE_MS);
    const held = [-0.9 * head.yaw, -0.9 * head.pitch].map((rad) => Math.max(-0.42, Math.min(0.42, rad)));
    return held.map((rad, k) => rad + this.from[k] + (this.to[k] - this.from[k]) * s);
  }
}

// The gaze that blendshapes say, mean of both eyes, rad, to the viewer's right (the robot's left) and down.
export function modelGaze(arkit) {
  const right = arkit[AT.eyeLookOutLeft] - arkit[AT.eyeLookInLeft] + arkit[AT.eyeLookInRight] - arkit[AT.eyeLookOutRight];
  const down = arkit[AT.eyeLookDownLeft] - arkit[AT.eyeLookUpLeft] + arkit[AT.eyeLookDownRight] - arkit[AT.eyeLookUpRight];
  return [(right / 2) * FULL_GAZE_RAD, (down / 2) * FULL_GAZE_RAD];
}
