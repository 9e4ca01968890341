// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// Moonraker's notifications, over a websocket that is opened again when it is lost.

import { base, get } from "./api.js";

const FIRST = 1000;
const LONGEST = 10000;

export class Live {
  /** heard(method, params) for each notification; changed() for the connection. */
  constructor(heard, changed) {
    this.heard = heard;
    this.changed = changed;
    this.up = null; // true or false once it is known
    this.delay = FIRST;
    this.socket = null;
    this.timer = 0;
  }

  async open() {
    clearTimeout(this.timer);
    if (this.socket) return;
    const url = new URL("websocket", base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    try {
      // A websocket cannot send headers: this says who asks, once.
      url.searchParams.set("token", await get("access/oneshot_token"));
    } catch {
      this.set(false);
      this.again();
      return;
    }
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      this.delay = FIRST;
      this.set(true);
    };
    socket.onmessage = (event) => {
      const { method, params } = JSON.parse(event.data);
      if (method) this.heard(method, params ?? []);
    };
    socket.onclose = () => {
      this.socket = null;
      this.set(false);
      this.again();
    };
  }

  again() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), this.delay);
    this.delay = Math.min(2 * this.delay, LONGEST);
  }

  set(up) {
    const before = this.up;
    this.up = up;
    if (up !== before) this.changed();
  }
}
