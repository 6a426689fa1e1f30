// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// Puts the parts together: socket -> track -> life -> face, once a frame of the screen.
//
// In the address: ?kiosk hides all but the face, ?engineer opens the engineer's view, ?still shows only
// what the motion says (no own blinks and gaze), ?head=0.5 turns the head on the screen half as far.

import { AT } from './arkit.js';
import { ServerClock } from './clock.js';
import { Engineer } from './engineer.js';
import { Face } from './face.js';
import { Life } from './life.js';
import { Link } from './link.js';
import { Log } from './log.js';
import { neutralPose, smooth, Track } from './track.js';

const ASLEEP_AFTER_MS = 5000; // a face without its robot closes its eyes
const FALL_ASLEEP_MS = 1500;
const IDLE_MS = 3000;
const UNKNOWN_STATE = { state: NaN, user_db: -120, agent_db: -120 };
// From drawing to light, in frames: measured in Chromium by filming its screen.
const FRAMES_TO_SCREEN = 1.5;

const query = new URLSearchParams(location.search);
const settings = { head_gain: 1, screen_latency_ms: 0 };
const clock = new ServerClock();
const track = new Track();
const life = new Life(Math.random, !query.has('still'));
const face = new Face(document.getElementById('face'));
const log = new Log();
const whyText = document.getElementById('why');
const pose = neutralPose();
let page = null;
let state = UNKNOWN_STATE;
let attention = 0;
let frameMs = 16.7; // between frames that are drawn
let wasDrawn = false;
let lastFrame = NaN;
let lastAt = NaN;
let sleep = 0;

const link = new Link(clock, {
  hello(message) {
    if (page && page !== message.page) location.reload(); // the node is of a newer version
    page = message.page;
  },
  settings(message) {
    Object.assign(settings, message);
  },
  up: startAnew,
  down() {
    state = UNKNOWN_STATE;
  },
  plan(message) {
    track.push(message.frames);
    life.see(message.frames);
    log.plan(message, clock.now(performance.now()));
  },
  level(message) {
    log.level(message);
  },
  state(message) {
    state = message;
    log.state(message);
  },
});

const engineer = new Engineer(document, { track, log, clock, link, face, life });

// Stamps of another node, or from before the clock went back, mean nothing now.
function startAnew() {
  track.clear();
  life.forget();
  log.clear();
  lastAt = NaN;
}

function drawFrame(now) {
  requestAnimationFrame(drawFrame);
  const elapsed = Number.isNaN(lastFrame) ? 16.7 : Math.min(200, now - lastFrame);
  lastFrame = now;
  if (wasDrawn && elapsed > 4) frameMs += 0.1 * (Math.min(elapsed, 150) - frameMs);
  // What is drawn now is seen after the next refresh of the screen; a busy machine refreshes late.
  const shownAt = now + FRAMES_TO_SCREEN * frameMs + settings.screen_latency_ms;
  const at = clock.now(shownAt);
  if (at < lastAt - 1000) startAnew();
  lastAt = at;
  track.sample(clock.isKnown ? at : -Infinity, pose);
  const head = angles(pose.neck);
  const gaze = life.animate(pose, shownAt, at, head);
  if (!query.has('still')) fallAsleep(now);
  const wanted = state.state & 1 ? 1 : 0;
  attention += (wanted - attention) * (1 - Math.exp(-elapsed / 180));
  const gain = query.has('head') ? Number(query.get('head')) || 0 : settings.head_gain;
  wasDrawn = face.draw(pose, gaze, Math.round(attention * 100) / 100, gain);
  log.frame(at, head, pose.arkit[AT.jawOpen], face.opening, elapsed, wasDrawn);
  engineer.draw(now, at, state);
  showWhy();
}

// Where the node refuses this page, people in front of it read why: nothing else would show it.
function showWhy() {
  const why = link.isUp ? '' : link.why;
  if (whyText.textContent === why) return;
  whyText.textContent = why;
  whyText.hidden = !why;
}

// Eyes close when the robot has been gone for a while, and open when it is back.
function fallAsleep(now) {
  const gone = link.isUp ? 0 : now - link.downSince - ASLEEP_AFTER_MS;
  const wanted = smooth(gone / FALL_ASLEEP_MS);
  sleep += Math.max(-0.05, Math.min(0.05, wanted - sleep));
  if (sleep < 0.001) return;
  for (const k of [AT.eyeBlinkLeft, AT.eyeBlinkRight]) pose.arkit[k] = Math.max(pose.arkit[k], sleep);
}

function angles([x, y, z, w]) {
  return {
    yaw: Math.atan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z)),
    pitch: Math.asin(Math.max(-1, Math.min(1, 2 * (w * y - x * z)))),
    roll: Math.atan2(2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
  };
}

function resize() {
  face.resize();
  engineer.resize();
}

function setEngineer(isOn) {
  document.body.classList.toggle('engineer', isOn);
  document.getElementById('engineer').hidden = !isOn;
  engineer.isOn = isOn;
  resize();
}

async function toggleFullScreen() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await document.documentElement.requestFullscreen({ navigationUI: 'hide' }).catch(() => {});
}

async function stayAwake() {
  if (document.visibilityState === 'visible') await navigator.wakeLock?.request('screen').catch(() => {});
}

let idleTimer = 0;
function notIdle() {
  document.body.classList.remove('is-idle');
  clearTimeout(idleTimer);
  idleTimer = setTimeout(() => document.body.classList.add('is-idle'), IDLE_MS);
}

addEventListener('resize', resize);
addEventListener('pointermove', notIdle);
addEventListener('dblclick', toggleFullScreen);
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'f') toggleFullScreen();
  if (event.key === 'e') setEngineer(!engineer.isOn);
});
document.addEventListener('visibilitychange', stayAwake);
document.getElementById('toggle-engineer').onclick = () => setEngineer(!engineer.isOn);
document.getElementById('toggle-screen').onclick = toggleFullScreen;
document.body.classList.toggle('kiosk', query.has('kiosk'));
setEngineer(query.has('engineer'));
if (query.has('kiosk')) document.body.classList.add('is-idle');
else notIdle();
stayAwake();
requestAnimationFrame(drawFrame);

// For the engineer's console, and for tests.
window.timar = { clock, track, life, link, log, face, settings };
