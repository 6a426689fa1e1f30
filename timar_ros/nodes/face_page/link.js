// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// The socket to the node: opened again whenever it closes, with pings that keep the clock.

import { decode } from './wire.js';

const PING_MS = 1000;
const QUICK_PING_MS = 120;
const SILENT_MS = 4000; // a socket on which no answer comes is dead, whatever it says
const RETRY_MS = [200, 400, 800, 1500];
const ASK_MS = 4000; // between two questions why no socket opens
const LONGEST_REASON = 400;

export class Link {
  // on: {hello, settings, plan, level, state, up, down}: functions, each optional
  constructor(clock, on) {
    this.clock = clock;
    this.on = on;
    this.tries = 0;
    this.isUp = false;
    this.downSince = performance.now();
    this.why = ''; // no socket opens, in words; '' where nobody says
    this.askedAt = -Infinity;
    this.n = { opened: 0, received: 0 };
    this.open();
  }

  open() {
    const socket = new WebSocket(address().replace(/^http/, 'ws'));
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.ping();
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => this.lose(socket);
    this.socket = socket;
    this.heardAt = performance.now();
    this.timer = setTimeout(() => this.watch(), QUICK_PING_MS);
  }

  receive(data) {
    const received = performance.now();
    this.heardAt = received;
    this.n.received += 1;
    const message = decode(data);
    if (!message) return;
    if (message.type === 'pong') {
      this.clock.add(message.ping, received, message.clock_ms);
    } else if (message.type === 'hello') {
      this.tries = 0;
      this.isUp = true;
      this.why = '';
      this.n.opened += 1;
      this.clock.reset(); // another node, another clock
      this.on.up?.();
    }
    this.on[message.type]?.(message);
  }

  ping() {
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ ping: performance.now() }));
    }
  }

  watch() {
    if (performance.now() - this.heardAt > SILENT_MS) {
      this.socket.close();
      this.lose(this.socket);
      return;
    }
    this.ping();
    this.timer = setTimeout(() => this.watch(), this.clock.isUnsettled ? QUICK_PING_MS : PING_MS);
  }

  lose(socket) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.timer);
    if (this.isUp) this.downSince = performance.now();
    this.isUp = false;
    this.on.down?.();
    if (this.tries > 0) this.ask();
    const wait = RETRY_MS[Math.min(this.tries, RETRY_MS.length - 1)];
    this.tries += 1;
    setTimeout(() => this.open(), wait * (0.8 + 0.4 * Math.random()));
  }
  // Browsers do not show a page why it got no socket, so the node answers that by HTTP, too.
  async ask() {
    if (performance.now() - this.askedAt < ASK_MS) return;
    this.askedAt = performance.now();
    let why = '';
    try {
      const answer = await fetch(address(), { method: 'POST' });
      const isOurs = answer.headers.get('Content-Type')?.startsWith('text/plain') && ![404, 405].includes(answer.status);
      why = isOurs ? (await answer.text()).trim() : `no answer from the face node (HTTP ${answer.status})`;
    } catch {} // nobody is there
    if (!this.isUp) this.why = why.slice(0, LONGEST_REASON);
  }
}

// Of the socket: beside the page, which a proxy may serve below a path of its own, with a slash or without.
function address() {
  return `${location.origin}${location.pathname.replace(/(^|\/)(index\.html)?$/, '')}/socket`;
}
