// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// From blendshapes to the few numbers that the face is drawn from. Left is the robot's left, at the
// viewer's right. Lengths are in face units (project.js).

import { AT } from './arkit.js';

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

// pose: {arkit}; gaze: [right, down] rad. Returns {eyes: [right, left], brows, mouth, cheeks, nose}.
export function rig(arkit, gaze) {
  const v = (name) => arkit[AT[name]];
  const sides = ['Right', 'Left'];
  return {
    eyes: sides.map((side) => eye(v, side, gaze)),
    brows: sides.map((side) => brow(v, side)),
    cheeks: sides.map((side) => cheek(v, side)),
    mouth: mouth(v),
    nose: sides.map((side) => v(`noseSneer${side}`)),
  };
}

function eye(v, side, gaze) {
  const blink = v(`eyeBlink${side}`);
  const squint = clamp(v(`eyeSquint${side}`) + 0.75 * v(`cheekSquint${side}`) + 0.25 * v(`mouthSmile${side}`), 0, 1);
  const wide = v(`eyeWide${side}`);
  const down = clamp(gaze[1], -0.6, 0.6);
  const frown = v(`browDown${side}`);
  const worry = v('browInnerUp') * (1 - frown);
  return {
    // 1 is open at rest; the upper lid goes with the gaze, as lids do
    upper: clamp((0.93 + 0.28 * wide - 0.42 * Math.max(0, down) - 0.18 * Math.min(0, down) - 0.12 * squint - 0.12 * frown) * (1 - blink), 0, 1.26),
    lower: clamp(1 - 1.25 * squint - 0.18 * Math.min(0, down) + 0.06 * wide, -0.3, 1.1) * (1 - blink),
    squint,
    // lids tilt: inner corner down when angry, outer corner down when sad
    inner: 0.17 * frown - 0.06 * worry,
    outer: 0.1 * worry + 0.05 * v(`mouthFrown${side}`),
    gaze: [clamp(gaze[0], -0.6, 0.6), down],
    wide,
  };
}

function brow(v, side) {
  const down = v(`browDown${side}`);
  const inner = v('browInnerUp');
  const outer = v(`browOuterUp${side}`);
  const wide = v(`eyeWide${side}`);
  // Brows that go up together stay on the forehead.
  const most = (x) => (x > 0 ? 0.1 * Math.tanh(x / 0.1) : x);
  return {
    inner: most(0.12 * inner + 0.02 * outer + 0.02 * wide) - 0.155 * down,
    middle: most(0.065 * inner + 0.08 * outer + 0.025 * wide) - 0.09 * down,
    outer: most(0.13 * outer - 0.02 * inner + 0.015 * wide) - 0.015 * down,
    together: 0.06 * down + 0.02 * inner,
  };
}

function cheek(v, side) {
  const smile = v(`mouthSmile${side}`);
  return { raise: clamp(0.75 * smile + 0.8 * v(`cheekSquint${side}`), 0, 1), puff: v('cheekPuff') };
}

function mouth(v) {
  const jaw = v('jawOpen');
  const close = Math.min(v('mouthClose'), jaw);
  const pucker = v('mouthPucker');
  const funnel = v('mouthFunnel');
  const round = clamp(pucker + 0.75 * funnel, 0, 1);
  const drop = 0.41 * jaw ** 0.85; // how far the lower jaw is down
  const sides = ['Right', 'Left'].map((side) => {
    const smile = v(`mouthSmile${side}`);
    const frown = v(`mouthFrown${side}`);
    const stretch = v(`mouthStretch${side}`);
    const dimple = v(`mouthDimple${side}`);
    const press = v(`mouthPress${side}`);
    return {
      width: 0.385 * (1 + 0.26 * smile + 0.22 * stretch + 0.12 * dimple + 0.05 * frown - 0.04 * press
        - 0.5 * pucker - 0.34 * funnel - 0.12 * jaw),
      // a resting face is friendly, an angry one is not
      corner: -0.05 + 0.09 * v(`browDown${side}`) * (1 - smile) - 0.15 * smile + 0.22 * frown - 0.03 * dimple
        + 0.03 * stretch + 0.05 * press * (1 - smile) + 0.3 * drop + 0.02 * round,
      up: 0.085 * v(`mouthUpperUp${side}`) + 0.02 * smile,
      down: 0.1 * v(`mouthLowerDown${side}`),
      press,
      tight: clamp(0.35 * smile + 0.4 * stretch + 0.75 * press, 0, 0.85),
    };
  });
  const gap = drop * (1 - 0.97 * close / Math.max(jaw, 1e-6)) + 0.075 * funnel * (1 - close);
  return {
    sides,
    x: 0.13 * (v('mouthLeft') - v('mouthRight')),
    jawX: 0.09 * (v('jawLeft') - v('jawRight')),
    drop,
    round,
    // the middle of the lips, above and below the line between the corners
    upper: 0.22 * gap + 0.03 * funnel - 0.055 * v('mouthShrugUpper') * (gap > 0.02 ? 1 : 0.6),
    lower: 0.78 * gap,
    middle: 0.85 * (drop - gap) - 0.06 * v('mouthShrugLower') - 0.03 * v('mouthShrugUpper'),
    upperLip: 0.036 * (1 + 0.7 * pucker + 0.55 * funnel + 0.25 * v('mouthShrugUpper')) * (1 - 0.85 * v('mouthRollUpper')),
    lowerLip: 0.052 * (1 + 0.55 * pucker + 0.5 * funnel + 0.3 * v('mouthShrugLower')) * (1 - 0.85 * v('mouthRollLower')),
    tongue: v('tongueOut'),
    forward: 0.12 * (pucker + funnel) + 0.06 * v('jawForward'),
  };
}
