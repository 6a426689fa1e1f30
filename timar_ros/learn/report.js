// Draws what report.py embedded: heads, curves and spectra, all in step with one playhead.
'use strict';
const D = JSON.parse(document.getElementById('data').textContent);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const INK = css('--ink'), SOFT = css('--soft'), LINE = css('--line');
const USER = css('--user'), AGENT = css('--agent');
const PITCH = '#1f7a6d', YAW = '#8a4fbf', ROLL = '#b59a1e';
const $ = id => document.getElementById(id);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}
// Channels come as int16 of a scale each, one channel after the other.
function channels(packed) {
  const values = {}, data = new DataView(bytes(packed.data).buffer);
  packed.names.forEach((name, c) => {
    const x = new Float32Array(packed.n);
    for (let i = 0; i < packed.n; i++) x[i] = data.getInt16(2 * (c * packed.n + i), true) * packed.scale[c];
    values[name] = x;
  });
  return values;
}
const C = channels(D.motion);
const U = D.user ? channels(D.user) : null;
const envelope = { user: bytes(D.envelope.user), agent: bytes(D.envelope.agent) };
const duration = D.duration;
let now = 0, playing = false, span = Math.min(20, duration), sound = null;

// ---- sound -------------------------------------------------------------------------------------
function wav() {
  const { rate } = D.audio, left = bytes(D.audio.user), right = bytes(D.audio.agent);
  const n = Math.max(left.length, right.length), buffer = new ArrayBuffer(44 + 4 * n);
  const out = new DataView(buffer);
  const text = (at, s) => [...s].forEach((c, i) => out.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF'); out.setUint32(4, 36 + 4 * n, true); text(8, 'WAVEfmt ');
  out.setUint32(16, 16, true); out.setUint16(20, 1, true); out.setUint16(22, 2, true);
  out.setUint32(24, rate, true); out.setUint32(28, 4 * rate, true); out.setUint16(32, 4, true);
  out.setUint16(34, 16, true); text(36, 'data'); out.setUint32(40, 4 * n, true);
  const table = new Int16Array(256);
  for (let i = 0; i < 256; i++) {
    const y = (i - 128) / 127, x = Math.sign(y) * (Math.pow(256, Math.abs(y)) - 1) / 255;
    table[i] = Math.round(32767 * x);
  }
  for (let i = 0; i < n; i++) {
    out.setInt16(44 + 4 * i, i < left.length ? table[left[i]] : 0, true);
    out.setInt16(46 + 4 * i, i < right.length ? table[right[i]] : 0, true);
  }
  return new Blob([buffer], { type: 'audio/wav' });
}
if (D.audio) {
  sound = new Audio(URL.createObjectURL(wav()));
  sound.preload = 'auto';
  $('sound').textContent = 'user left, robot right';
} else $('sound').textContent = 'no sound: the recording is too long to embed';

// ---- drawing surfaces --------------------------------------------------------------------------
function surface(canvas) {
  const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
  }
  const g = canvas.getContext('2d');
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, w, h);
  g.font = '12px system-ui, "Segoe UI", "Liberation Sans", sans-serif';
  return { g, w, h };
}
const frameAt = t => clamp(Math.floor(t * D.fps + 1e-6), 0, D.motion.n - 1);
const loudness = (voice, t) => (envelope[voice][Math.floor(t * D.envelope.rate)] || 0) / 255;
const speaks = (voice, t) => D.speech[voice].some(([from, to]) => from <= t && t < to);

{{heads}}

// ---- time line ---------------------------------------------------------------------------------
const LEFT = 62, RIGHT = 14;
function view() {
  const from = span >= duration ? 0 : clamp(now - span / 2, 0, duration - span);
  return { from, to: from + Math.min(span, duration) };
}
function niceStep(range, wanted) {
  const raw = range / wanted, power = Math.pow(10, Math.floor(Math.log10(raw)));
  return [1, 2, 5, 10].map(m => m * power).find(step => step >= raw);
}
function timeStep(range) {
  return range <= 90 ? niceStep(range, 10) : [15, 30, 60, 120, 300, 600].find(step => range / step <= 10) || 1200;
}
function shown(t) {
  const minutes = Math.floor(t / 60), seconds = (t - 60 * minutes).toFixed(1).padStart(4, '0');
  return `${minutes}:${seconds}`;
}
function turns(g, x, y, h, voice, color) {
  g.fillStyle = color;
  for (const [from, to] of D.speech[voice]) {
    const left = x(from), right = x(to);
    if (right > LEFT) g.fillRect(Math.max(left, LEFT), y, Math.max(right - Math.max(left, LEFT), 1), h);
  }
}
function overview() {
  const { g, w } = surface($('overview')), x = t => LEFT + (w - LEFT - RIGHT) * t / duration;
  g.textBaseline = 'middle'; g.textAlign = 'right'; g.fillStyle = SOFT;
  g.fillText('user', LEFT - 8, 11); g.fillText('robot', LEFT - 8, 31);
  g.fillStyle = '#f0f1f3'; g.fillRect(LEFT, 4, w - LEFT - RIGHT, 15); g.fillRect(LEFT, 24, w - LEFT - RIGHT, 15);
  turns(g, x, 4, 15, 'user', USER); turns(g, x, 24, 15, 'agent', AGENT);
  g.fillStyle = SOFT; g.textAlign = 'center'; g.textBaseline = 'top';
  const step = Math.max(timeStep(duration), 1);
  for (let t = 0; t <= duration; t += step) g.fillText(duration > 90 ? shown(t).slice(0, -2) : `${t} s`, x(t), 44);
  const { from, to } = view();
  if (to - from < duration) {
    g.strokeStyle = INK; g.lineWidth = 1.5; g.strokeRect(x(from), 1.5, x(to) - x(from), 40);
  }
  g.fillStyle = INK; g.fillRect(x(now) - 0.75, 0, 1.5, 43);
}
function curve(g, x, y, values, from, to, color) {
  const first = Math.max(Math.floor(from * D.fps) - 1, 0), last = Math.min(Math.ceil(to * D.fps) + 1, values.length - 1);
  g.strokeStyle = color; g.lineWidth = 1.5; g.lineJoin = 'round'; g.beginPath();
  const perPixel = (last - first) / Math.max(x(to) - x(from), 1);
  if (perPixel > 2) {  // the least and the greatest of each pixel, so that no peak is lost
    const group = Math.ceil(perPixel);
    for (let i = first; i <= last; i += group) {
      let low = Infinity, high = -Infinity;
      for (let j = i; j < Math.min(i + group, last + 1); j++) { low = Math.min(low, values[j]); high = Math.max(high, values[j]); }
      g.lineTo(x(i / D.fps), y(low)); g.lineTo(x(i / D.fps), y(high));
    }
  } else for (let i = first; i <= last; i++) g.lineTo(x(i / D.fps), y(values[i]));
  g.stroke();
}
function filled(g, x, base, height, voice, from, to, color) {
  const rate = D.envelope.rate, data = envelope[voice];
  const step = Math.max(Math.round((to - from) * rate / 1000), 1);
  g.fillStyle = color; g.beginPath(); g.moveTo(x(from), base);
  for (let i = Math.floor(from * rate); i <= Math.min(to * rate, data.length - 1); i += step) {
    let peak = 0;
    for (let j = i; j < i + step && j < data.length; j++) peak = Math.max(peak, data[j]);
    g.lineTo(x(i / rate), base - height * peak / 255);
  }
  g.lineTo(x(Math.min(to, data.length / rate)), base); g.closePath(); g.fill();
}
function extent(names, least) {
  let low = 0, high = 0;
  for (const name of names) for (const value of C[name]) { if (value < low) low = value; if (value > high) high = value; }
  const room = Math.max(0.06 * (high - low), 1e-6);
  if (high - low < least) { const middle = (high + low) / 2; return [middle - least / 2, middle + least / 2]; }
  return [low - room, high + room];
}
const NECK_RANGE = extent(['pitch', 'yaw', 'roll'], 4);
const JAW_RANGE = [0, Math.max(extent(['jaw'], 2)[1], 4)];
const SPEED_RANGE = [0, Math.max(extent(['speed'], 10)[1], 60)];
function detail() {
  const canvas = $('detail'), { g, w, h } = surface(canvas), { from, to } = view();
  const x = t => LEFT + (w - LEFT - RIGHT) * (t - from) / (to - from);
  const foot = 24, gap = 25;
  const heights = [0.2, 0.34, 0.23, 0.23].map(share => share * (h - foot - 4 * gap));
  let top = gap;
  const boxes = heights.map(height => { const box = { top, height, bottom: top + height }; top += height + gap; return box; });
  const [voices, neck, mouth, speed] = boxes;
  g.save(); g.beginPath(); g.rect(LEFT, 0, w - LEFT - RIGHT, h); g.clip();
  const middle = (voices.top + voices.bottom) / 2, half = voices.height / 2 - 2;
  filled(g, x, middle - 1, half, 'user', from, to, USER);
  g.save(); g.translate(0, 2 * middle); g.scale(1, -1);
  filled(g, x, middle - 1, half, 'agent', from, to, AGENT); g.restore();
  for (const box of [neck, mouth, speed]) {
    g.globalAlpha = 0.07; turns(g, x, box.top, box.height / 2, 'user', USER);
    turns(g, x, box.top + box.height / 2, box.height / 2, 'agent', AGENT); g.globalAlpha = 1;
  }
  const scale = (box, [low, high]) => v => box.bottom - box.height * (v - low) / (high - low);
  const yNeck = scale(neck, NECK_RANGE), yJaw = scale(mouth, JAW_RANGE), ySpeed = scale(speed, SPEED_RANGE);
  g.globalAlpha = 0.28; filled(g, x, mouth.bottom, mouth.height, 'agent', from, to, AGENT); g.globalAlpha = 1;
  for (const [low, high, color] of [[5, 20, 'rgba(47, 125, 79, .22)'], [23, 57, 'rgba(47, 125, 79, .1)']]) {
    g.fillStyle = color; g.fillRect(LEFT, ySpeed(high), w, ySpeed(low) - ySpeed(high));
  }
  g.restore();
  const labelled = (box, title, range, unit, y) => {
    g.fillStyle = INK; g.textAlign = 'left'; g.textBaseline = 'bottom';
    g.fillText(w < 760 ? title.split(/[:,]/)[0] : title, LEFT, box.top - 4);
    if (!range) return;
    const step = niceStep(range[1] - range[0], Math.max(box.height / 32, 2));
    g.textAlign = 'right'; g.textBaseline = 'middle'; g.lineWidth = 1;
    for (let v = Math.ceil(range[0] / step) * step; v <= range[1] + 1e-9; v += step) {
      g.strokeStyle = Math.abs(v) < 1e-9 ? '#b9bec6' : '#ebedf0'; g.beginPath(); g.moveTo(LEFT, y(v)); g.lineTo(w - RIGHT, y(v)); g.stroke();
      g.fillStyle = SOFT; g.fillText(`${+v.toFixed(6)}${unit}`, LEFT - 7, y(v));
    }
  };
  labelled(voices, 'Voices', null);
  g.textAlign = 'right'; g.textBaseline = 'middle'; g.fillStyle = USER; g.fillText('user', LEFT - 7, middle - half / 2);
  g.fillStyle = AGENT; g.fillText('robot', LEFT - 7, middle + half / 2);
  labelled(neck, 'Neck: pitch (+ nose down), yaw (+ to its left), roll (+ to its right)', NECK_RANGE, '°', yNeck);
  labelled(mouth, 'Mouth: opening of the jaw, over the loudness of the robot\'s voice', JAW_RANGE, '°', yJaw);
  labelled(speed, 'Speed of the head, °/s; green: where people have their median (5 to 20) and their 95th percentile (23 to 57)', SPEED_RANGE, '', ySpeed);
  g.save(); g.beginPath(); g.rect(LEFT, 0, w - LEFT - RIGHT, h); g.clip();
  curve(g, x, yNeck, C.roll, from, to, ROLL); curve(g, x, yNeck, C.yaw, from, to, YAW); curve(g, x, yNeck, C.pitch, from, to, PITCH);
  curve(g, x, yJaw, C.jaw, from, to, INK); curve(g, x, ySpeed, C.speed, from, to, INK);
  g.restore();
  g.textAlign = 'center'; g.textBaseline = 'top'; g.fillStyle = SOFT;
  const step = timeStep(to - from);
  for (let t = Math.ceil(from / step) * step; t <= to + 1e-9; t += step) {
    g.fillText(duration > 90 ? shown(t).replace('.0', '') : `${+t.toFixed(3)} s`, x(t), h - foot + 6);
  }
  g.fillStyle = INK; g.fillRect(x(now) - 0.75, gap, 1.5, h - foot - gap);
  const i = frameAt(now), value = (box, color, text, row) => {
    g.textAlign = 'right'; g.textBaseline = 'bottom'; g.fillStyle = color; g.fillText(text, w - RIGHT - 78 * row, box.top - 4);
  };
  value(neck, ROLL, `roll ${C.roll[i].toFixed(1)}°`, 0); value(neck, YAW, `yaw ${C.yaw[i].toFixed(1)}°`, 1); value(neck, PITCH, `pitch ${C.pitch[i].toFixed(1)}°`, 2);
  value(mouth, INK, `${C.jaw[i].toFixed(1)}°`, 0); value(speed, INK, `${C.speed[i].toFixed(0)} °/s`, 0);
}

// ---- spectra -----------------------------------------------------------------------------------
function spectra() {
  const { g, w, h } = surface($('spectra')), S = D.spectra;
  g.fillStyle = SOFT;
  if (!S) { g.textAlign = 'center'; g.fillText('the recording is too short for a spectrum', w / 2, h / 2); return; }
  const top = 10, bottom = h - 34, low = Math.log10(S.frequency[0]), high = Math.log10(S.frequency[S.frequency.length - 1]);
  const x = f => LEFT + (w - LEFT - RIGHT) * (Math.log10(f) - low) / (high - low);
  let most = -Infinity;
  for (const axis of ['pitch', 'yaw', 'roll']) for (const p of S[axis]) most = Math.max(most, p);
  const ceiling = Math.ceil(Math.log10(Math.max(most, 1e-6)) + 0.2), floor = ceiling - 6;
  const y = p => top + (bottom - top) * clamp((ceiling - Math.log10(Math.max(p, 1e-30))) / 6, 0, 1);
  const band = (from, to, color) => { g.fillStyle = color; g.fillRect(x(from), top, x(to) - x(from), bottom - top); };
  band(Math.max(0.2, S.frequency[0]), 1.1, '#dfeee3'); band(7, S.frequency[S.frequency.length - 1], '#f6e3e0');
  g.textBaseline = 'middle'; g.textAlign = 'right';
  for (let e = floor; e <= ceiling; e += 2) {
    g.strokeStyle = LINE; g.beginPath(); g.moveTo(LEFT, y(10 ** e)); g.lineTo(w - RIGHT, y(10 ** e)); g.stroke();
    g.fillStyle = SOFT; g.fillText(e < -3 || e > 3 ? `1e${e}` : `${+(10 ** e).toPrecision(1)}`, LEFT - 7, y(10 ** e));
  }
  g.textAlign = 'center'; g.textBaseline = 'top'; g.fillStyle = SOFT;
  for (const f of [0.1, 0.2, 0.5, 1, 2, 5, 10]) if (f >= S.frequency[0]) g.fillText(`${f} Hz`, x(f), bottom + 6);
  g.textAlign = 'left'; g.fillText('(°)²/Hz', LEFT + 6, top + 4);
  for (const [axis, color] of [['roll', ROLL], ['yaw', YAW], ['pitch', PITCH]]) {
    g.strokeStyle = color; g.lineWidth = 2; g.beginPath();
    S.frequency.forEach((f, i) => g.lineTo(x(f), y(S[axis][i]))); g.stroke();
  }
}

// ---- play --------------------------------------------------------------------------------------
function paint() {
  heads(); overview(); detail();
  $('seek').value = 1000 * now / duration;
  $('clock').textContent = `${shown(now)} / ${shown(duration)}`;
}
let last = 0;
function tick(time) {
  if (!playing) return;
  now = sound ? sound.currentTime : now + (time - last) / 1000;
  last = time;
  if (now >= duration || (sound && sound.ended)) { now = Math.min(now, duration); stop(); }
  paint();
  requestAnimationFrame(tick);
}
function stop() { playing = false; $('play').textContent = 'Play'; if (sound) sound.pause(); }
function start() {
  if (now >= duration - 0.05) go(0);
  playing = true; $('play').textContent = 'Pause'; last = performance.now();
  const begun = sound ? sound.play() : Promise.resolve();
  begun.then(() => requestAnimationFrame(tick)).catch(() => stop());
}
function go(t) { now = clamp(t, 0, duration); if (sound) sound.currentTime = now; paint(); }
$('play').onclick = () => playing ? (stop(), paint()) : start();
$('seek').oninput = event => go(event.target.value / 1000 * duration);
for (const button of document.querySelectorAll('#zooms button')) {
  const wanted = +button.dataset.span || duration;
  if (wanted > duration) { button.hidden = true; continue; }
  button.onclick = () => { span = wanted; mark(); paint(); };
}
function mark() {
  for (const button of document.querySelectorAll('#zooms button')) button.classList.toggle('on', Math.abs((+button.dataset.span || duration) - span) < 1e-6);
}
for (const [id, range] of [['overview', () => ({ from: 0, to: duration })], ['detail', view]]) {
  const canvas = $(id);
  let held = null;  // the range at the press, which must not move under the pointer
  const at = event => {
    const box = canvas.getBoundingClientRect(), share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    go(held.from + clamp(share, 0, 1) * (held.to - held.from));
  };
  canvas.onpointerdown = event => { held = range(); canvas.setPointerCapture(event.pointerId); at(event); };
  canvas.onpointermove = event => { if (held) at(event); };
  canvas.onpointerup = canvas.onpointercancel = () => { held = null; };
}
document.addEventListener('keydown', event => {
  if (event.target.tagName === 'INPUT' || event.target.tagName === 'BUTTON') return;
  if (event.key === ' ') { event.preventDefault(); $('play').click(); }
  if (event.key === 'ArrowLeft') go(now - 1);
  if (event.key === 'ArrowRight') go(now + 1);
});
window.addEventListener('resize', () => { paint(); spectra(); });
mark(); go(D.begin); spectra();
