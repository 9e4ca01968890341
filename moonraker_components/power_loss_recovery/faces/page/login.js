// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.

import { logIn, Refused, sources, useKey } from "./api.js";
import { el, note, show } from "./view.js";

export class Login {
  /** done(): somebody has logged in. */
  constructor(done) {
    this.done = done;
    el("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  async open() {
    if (!el("login").hidden) return;
    show("login", true);
    note("login-error", "");
    el("username").focus();
    try {
      const found = await sources();
      const names = found.available_sources ?? [];
      el("source").replaceChildren(...names.map((name) => new Option(name)));
      el("source").value = found.default_source ?? "moonraker";
      show("source", names.length > 1);
      show("source-label", names.length > 1);
    } catch {
      // Only Moonraker's own accounts are known.
    }
  }

  async send() {
    const key = el("apikey").value.trim();
    note("login-error", "");
    try {
      if (key) await useKey(key);
      else {
        const source = el("source").value || "moonraker";
        await logIn(el("username").value, el("password").value, source);
      }
    } catch (error) {
      const why = error instanceof Refused ? error.message : "The printer is away.";
      note("login-error", `Not logged in: ${why}`);
      for (const id of ["username", "password", "apikey"]) {
        el(id).setAttribute("aria-invalid", String(error instanceof Refused));
      }
      el(key ? "apikey" : "password").focus();
      return;
    }
    for (const id of ["password", "apikey"]) el(id).value = "";
    for (const id of ["username", "password", "apikey"]) {
      el(id).removeAttribute("aria-invalid");
    }
    show("login", false);
    this.done();
  }
}
