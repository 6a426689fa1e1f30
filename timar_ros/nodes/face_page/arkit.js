// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// Where each blendshape is; the order of the space arkit55 in motion.py (a test compares them).

export const NAMES = (
  'eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft ' +
  'eyeWideLeft eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight ' +
  'eyeSquintRight eyeWideRight jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel ' +
  'mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft ' +
  'mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight ' +
  'mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft ' +
  'mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight ' +
  'browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff ' +
  'cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut'
).split(' ');

export const AT = Object.fromEntries(NAMES.map((name, i) => [name, i]));
