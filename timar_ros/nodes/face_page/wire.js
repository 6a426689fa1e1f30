// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// Reads what comes over the socket; face_wire.py writes it, and has the layout.

const PLAN = 1;
const LEVEL = 2;
export const N_ARKIT = 52;

// Turn a message, string or ArrayBuffer, into an object with a `type`; null if it is of no known kind.
export function decode(data) {
  if (typeof data === 'string') return JSON.parse(data);
  const view = new DataView(data);
  const kind = view.getUint32(0, true);
  const n = view.getUint32(4, true);
  if (kind === PLAN) return decodePlan(data, view, n);
  if (kind === LEVEL) {
    return {
      type: 'level',
      starts: new Float64Array(data, 8, n),
      spans: new Float32Array(data, 8 + 8 * n, n),
      levels: new Float32Array(data, 8 + 12 * n, n),
    };
  }
  return null;
}

function decodePlan(data, view, n) {
  const neckAt = 24 + 8 * n;
  const arkitAt = neckAt + 16 * n;
  const stamps = new Float64Array(data, 24, n);
  const frames = [];
  for (let i = 0; i < n; i++) {
    frames.push({
      at: stamps[i],
      neck: new Float32Array(data, neckAt + 16 * i, 4),
      arkit: new Float32Array(data, arkitAt + 4 * N_ARKIT * i, N_ARKIT),
    });
  }
  return { type: 'plan', plan: view.getFloat64(8, true), sent: view.getFloat64(16, true), frames };
}
