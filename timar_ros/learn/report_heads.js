// ---- heads -------------------------------------------------------------------------------------
// Axes of the data: x to the head's left, y up, z towards us; the head is about 2 high.
const PIVOT = [0, -0.85, -0.2];
function rotation([x, y, z]) {
  const angle = Math.hypot(x, y, z);
  if (angle < 1e-9) return [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const [a, b, c] = [x / angle, y / angle, z / angle], s = Math.sin(angle), k = Math.cos(angle), v = 1 - k;
  return [
    [k + a * a * v, a * b * v - c * s, a * c * v + b * s],
    [b * a * v + c * s, k + b * b * v, b * c * v - a * s],
    [c * a * v - b * s, c * b * v + a * s, k + c * c * v]];
}
function bust(g, cx, cy, size, pose, face, color, isKnown) {
  const R = rotation(pose);
  const turned = p => {
    const q = p.map((v, i) => v - PIVOT[i]);
    return R.map((row, i) => row[0] * q[0] + row[1] * q[1] + row[2] * q[2] + PIVOT[i]);
  };
  const flat = ([x, y, z]) => { const f = 7 / (7 - z); return [cx + size * x * f, cy - size * y * f]; };
  const path = (points, close = true) => {
    g.beginPath(); points.forEach(p => g.lineTo(...flat(turned(p)))); if (close) g.closePath();
  };
  const smooth = points => {  // a closed curve through the middles of the sides
    const at = points.map(p => flat(turned(p))), n = at.length, middle = i => [0, 1].map(k => (at[i % n][k] + at[(i + 1) % n][k]) / 2);
    g.beginPath(); g.moveTo(...middle(0));
    for (let i = 1; i <= n; i++) g.quadraticCurveTo(...at[i % n], ...middle(i));
    g.closePath();
  };
  // the outline of a turned ellipsoid is an ellipse: that of P R diag(a², b², c²) Rᵀ Pᵀ
  const ellipsoid = (center, axes) => {
    const c = turned(center), f = 7 / (7 - c[2]), [px, py] = flat(c);
    const entry = (i, j) => axes.reduce((sum, a, k) => sum + R[i][k] * R[j][k] * a * a, 0);
    const a = entry(0, 0), b = entry(0, 1), d = entry(1, 1), m = (a + d) / 2, r = Math.hypot((a - d) / 2, b);
    g.beginPath();
    g.ellipse(px, py, size * f * Math.sqrt(m + r), size * f * Math.sqrt(Math.max(m - r, 1e-6)), -0.5 * Math.atan2(2 * b, a - d), 0, 2 * Math.PI);
  };
  const skin = isKnown ? '#f2ddc9' : '#dfe2e6', edge = isKnown ? '#b98f6b' : '#aeb4bd', dark = isKnown ? '#5b4636' : '#8b929c';
  // shoulders and neck do not turn
  g.fillStyle = color; g.globalAlpha = isKnown ? 1 : 0.45;
  g.beginPath(); g.moveTo(cx - 1.75 * size, cy + 2.35 * size);
  g.bezierCurveTo(cx - 1.7 * size, cy + 1.35 * size, cx - 0.8 * size, cy + 1.45 * size, cx - 0.42 * size, cy + 1.18 * size);
  g.lineTo(cx + 0.42 * size, cy + 1.18 * size);
  g.bezierCurveTo(cx + 0.8 * size, cy + 1.45 * size, cx + 1.7 * size, cy + 1.35 * size, cx + 1.75 * size, cy + 2.35 * size);
  g.closePath(); g.fill(); g.globalAlpha = 1;
  const throat = flat(turned([0, -0.75, 0.05]));
  g.fillStyle = isKnown ? '#e6c8ad' : '#d0d4da';
  g.beginPath(); g.moveTo(cx - 0.4 * size, cy + 1.3 * size); g.lineTo(throat[0] - 0.4 * size, throat[1]);
  g.lineTo(throat[0] + 0.4 * size, throat[1]); g.lineTo(cx + 0.4 * size, cy + 1.3 * size);
  g.quadraticCurveTo(cx, cy + 1.5 * size, cx - 0.4 * size, cy + 1.3 * size); g.fill();

  const drop = 0.55 * Math.sin(face.jaw * RAD);
  const skull = [[0, 0.18, -0.05], [0.8, 0.86, 0.88]], chin = [[0, -0.42 - 0.7 * drop, 0.12], [0.6, 0.6, 0.68]];
  const on = (x, y, out = 0) => {  // the point of the face in front of (x, y)
    const z = [skull, chin].map(([c, a]) => c[2] + a[2] * Math.sqrt(Math.max(1 - ((x - c[0]) / a[0]) ** 2 - ((y - c[1]) / a[1]) ** 2, 0)));
    return [x, y, Math.max(...z) + out];
  };
  const parts = [
    () => ellipsoid([-0.8, 0.02, -0.08], [0.1, 0.2, 0.13]), () => ellipsoid([0.8, 0.02, -0.08], [0.1, 0.2, 0.13]),
    () => ellipsoid(...skull), () => ellipsoid(...chin)];
  g.fillStyle = skin; g.strokeStyle = edge; g.lineWidth = 3;
  for (const part of parts) { part(); g.stroke(); }
  for (const part of parts) { part(); g.fill(); }
  if (turned([0, 0, 1])[2] - turned([0, 0, 0])[2] < 0.05) return;

  g.lineCap = g.lineJoin = 'round';
  for (const side of [1, -1]) {
    const name = side > 0 ? 'Left' : 'Right', of = key => face[key + name] || 0;
    const open = clamp(1 - of('eyeBlink') - 0.35 * of('eyeSquint') + 0.4 * of('eyeWide'), 0.03, 1.5);
    const ex = 0.31 * side, ey = 0.16;
    const lid = [];
    for (let i = 0; i < 14; i++) {
      const angle = 2 * Math.PI * i / 14, x = 0.17 * Math.cos(angle), y = 0.085 * open * Math.sin(angle);
      lid.push(on(ex + x, ey + y));
    }
    g.fillStyle = '#fff'; smooth(lid); g.fill();
    const look = [of('eyeLookOut') * side - of('eyeLookIn') * side, of('eyeLookUp') - of('eyeLookDown')];
    const pupil = flat(turned(on(ex + 0.08 * look[0], ey + 0.05 * look[1])));
    g.save(); g.clip(); g.fillStyle = dark; g.beginPath(); g.arc(...pupil, 0.078 * size, 0, 2 * Math.PI); g.fill(); g.restore();
    g.strokeStyle = dark; g.lineWidth = 0.03 * size; smooth(lid); g.stroke();
    const inner = 0.15 * (face.browInnerUp || 0) - 0.12 * of('browDown'), outer = 0.15 * of('browOuterUp') - 0.08 * of('browDown');
    g.lineWidth = 0.06 * size;
    path([on(0.14 * side, 0.38 + inner, 0.03), on(0.31 * side, 0.43 + (inner + outer) / 2, 0.03), on(0.48 * side, 0.37 + outer, 0.02)], false);
    g.stroke();
  }
  g.strokeStyle = edge; g.lineWidth = 0.045 * size;
  path([on(0, 0.14, 0.04), on(0, -0.14, 0.2), on(0.11, -0.2, 0.06), on(0, -0.24, 0.14), on(-0.11, -0.2, 0.06)], false); g.stroke();

  const of = key => face[key] || 0, both = key => (of(key + 'Left') + of(key + 'Right')) / 2;
  const round = clamp(of('mouthPucker') + of('mouthFunnel'), 0, 1);
  const wide = 0.3 * (1 - 0.45 * round) * (1 + 0.35 * both('mouthSmile') + 0.3 * both('mouthStretch')) ;
  const corner = 0.12 * both('mouthSmile') - 0.12 * both('mouthFrown'), top = 0.04 + 0.08 * both('mouthUpperUp') + 0.03 * of('mouthFunnel');
  const closed = clamp(1 - of('mouthClose') / Math.max(of('jawOpen'), 1e-3), 0, 1);
  const gape = drop * closed * 0.9, under = 0.05 + 0.1 * both('mouthLowerDown') + 0.03 * of('mouthFunnel');
  const my = -0.46, pout = 0.1 * round, thin = 1 - 0.6 * Math.max(of('mouthRollUpper'), of('mouthRollLower'), both('mouthPress'));
  const lip = (x, y) => on(x, y, 0.02 + pout * (1 - Math.abs(x) / wide));
  const lips = [lip(-wide, my + corner - gape * 0.4), lip(-wide * 0.5, my + top * thin), lip(0, my + top * thin * 0.85), lip(wide * 0.5, my + top * thin),
    lip(wide, my + corner - gape * 0.4), lip(wide * 0.5, my - under * thin - gape), lip(0, my - under * thin * 1.15 - gape), lip(-wide * 0.5, my - under * thin - gape)];
  g.fillStyle = isKnown ? '#c9796b' : '#b7bcc4'; smooth(lips); g.fill();
  if (gape + 0.08 * both('mouthLowerDown') + 0.06 * both('mouthUpperUp') > 0.012) {
    const w = wide * 0.78, up = 0.07 * both('mouthUpperUp'), down = gape + 0.08 * both('mouthLowerDown');
    g.fillStyle = '#4a1f22';
    smooth([lip(-w, my + corner - gape * 0.42), lip(-w * 0.5, my + up), lip(w * 0.5, my + up), lip(w, my + corner - gape * 0.42), lip(w * 0.5, my - down), lip(-w * 0.5, my - down)]);
    g.fill();
  }
}
const RAD = Math.PI / 180;
function heads() {
  const { g, w, h } = surface($('heads')), i = frameAt(now), size = Math.min(h / 4.1, w / 8.2);
  const people = [
    ['user', w * 0.27, USER, U, U ? 'user' : 'user (head not recorded)'],
    ['agent', w * 0.73, AGENT, C, 'robot']];
  for (const [voice, cx, color, head, label] of people) {
    const face = { pitch: 0, yaw: 0, roll: 0, jaw: 0 };
    for (const name in head) face[name] = head[name][i];
    g.save(); g.beginPath(); g.rect(cx - w / 4, 0, w / 2, h); g.clip();
    bust(g, cx, h * 0.44, size, [face.pitch * RAD, face.yaw * RAD, face.roll * RAD], face, color, !!head);
    g.restore();
    const level = loudness(voice, now), isLoud = speaks(voice, now);
    g.font = '600 13px system-ui, "Segoe UI", "Liberation Sans", sans-serif';
    const text = isLoud ? `${label}, speaking` : label, width = g.measureText(text).width + 24;
    g.fillStyle = isLoud ? color : 'rgba(255, 255, 255, .85)';
    g.beginPath(); g.roundRect(cx - width / 2, 10, width, 24, 12); g.fill();
    g.fillStyle = isLoud ? '#fff' : SOFT; g.textAlign = 'center'; g.textBaseline = 'middle'; g.fillText(text, cx, 22.5);
    g.fillStyle = color; g.globalAlpha = 0.9;
    g.beginPath(); g.roundRect(cx - width / 2, 38, Math.max(width * level, 0.1), 4, 2); g.fill(); g.globalAlpha = 1;
  }
}
