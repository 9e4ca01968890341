// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// Moonraker over HTTP, with its own ways to say who asks: a trusted address, a
// user with a password, or an API key.

// The page is at <prefix>/server/plr/, whatever a reverse proxy puts before it.
export const base = new URL("../../", document.baseURI);

const KEEP = "plr-login";
const TIMEOUT = 120000; // ms: some answers have a whole file read
const SOON = 8000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}
export class Unreachable extends Error {}
export class NeedsLogin extends Error {}

// For this tab only; a browser may forbid even that.
function load() {
  try {
    return JSON.parse(sessionStorage.getItem(KEEP)) ?? {};
  } catch {
    return {};
  }
}

function keep(found) {
  who = found;
  try {
    sessionStorage.setItem(KEEP, JSON.stringify(found));
  } catch {
    // It is asked for again when the page is loaded anew.
  }
}

let who = load();

async function send(method, path, body, timeout = TIMEOUT) {
  const headers = {};
  if (who.key) headers["X-Api-Key"] = who.key;
  else if (who.token) headers.Authorization = `Bearer ${who.token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(new URL(path, base), {
      method, headers, cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout?.(timeout),
    });
    text = await response.text();
  } catch {
    throw new Unreachable("no answer");
  }
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    // A proxy speaks for a Moonraker that is away.
    throw new Unreachable(`HTTP ${response.status}`);
  }
  if (response.ok) return answer.result;
  throw new Refused(response.status, answer.error?.message ?? response.statusText);
}

async function renewed() {
  if (!who.refresh) return false;
  const refresh = who.refresh;
  who = {};
  try {
    const { token } = await send("POST", "access/refresh_jwt",
      { refresh_token: refresh });
    keep({ token, refresh });
    return true;
  } catch (error) {
    if (error instanceof Unreachable) {
      who = { refresh };
      throw error;
    }
    return false;
  }
}

/** The `result` of a request. Throws Refused, Unreachable or NeedsLogin. */
export async function ask(method, path, body, timeout) {
  const known = Boolean(who.token || who.key || who.refresh);
  try {
    return await send(method, path, body, timeout);
  } catch (error) {
    if (error.status !== 401) throw error;
  }
  if (!await renewed()) keep({});
  if (known) {
    // An old login is no worse than none: the address may be trusted.
    try {
      return await send(method, path, body, timeout);
    } catch (error) {
      if (error.status !== 401) throw error;
    }
  }
  throw new NeedsLogin("log in");
}

export const get = (path) => ask("GET", path);
/** For what is asked again and again: a network that is gone says nothing. */
export const now = (path) => ask("GET", path, undefined, SOON);
export const post = (path, body = {}) => ask("POST", path, body);

/** Whether it is clear beforehand that requests will be refused. */
export async function mustLogIn() {
  if (who.token || who.key || who.refresh) return false;
  const info = await send("GET", "access/info");
  return info.login_required === true || info.trusted === false;
}

/** Where users may come from: {default_source, available_sources}. */
export const sources = () => send("GET", "access/info");

/** Throws Refused with Moonraker's reason. */
export async function logIn(username, password, source) {
  who = {};
  const found = await send("POST", "access/login", { username, password, source });
  keep({ token: found.token, refresh: found.refresh_token });
}

/** Throws Refused for a key that is not the right one. */
export async function useKey(key) {
  who = { key };
  try {
    await send("GET", "server/plr/status");
  } catch (error) {
    who = {};
    throw error;
  }
  keep({ key });
}
