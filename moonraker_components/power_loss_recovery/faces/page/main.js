// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// What is known of the printer, kept fresh; what people answer, sent.

import { mustLogIn, NeedsLogin, now, post, Unreachable } from "./api.js";
import { Live } from "./live.js";
import { Login } from "./login.js";
import { Place } from "./place.js";
import * as view from "./view.js";

const PERIOD = 2000; // ms between questions
const WHOLE = 5; // of them are answered by notifications, if those come
const HEAT = "printer/objects/query?heater_bed=temperature"
  + "&toolhead=axis_minimum,axis_maximum";

const known = {
  status: null, info: null, message: "", heat: null, away: false, error: "",
  acting: false, closed: false,
};
const login = new Login(() => start());
const place = new Place(failed, render);
const live = new Live(heard, () => refresh(true));

function failed(error) {
  if (error instanceof NeedsLogin) {
    known.closed = true;
    login.open();
  } else if (error instanceof Unreachable) {
    known.away = true;
    place.forget();
  } else {
    known.error = error.message;
  }
  render();
}

// Asking

let asking = null;
let again = false;
let news = 0; // notifications

function refresh(whole) {
  if (asking) {
    again = again || whole;
    return asking;
  }
  asking = ask(whole).catch(failed).finally(() => {
    asking = null;
    if (again) {
      again = false;
      refresh(true);
    }
  });
  return asking;
}

async function ask(whole) {
  if (known.closed) return;
  if (whole || known.away || !known.status) {
    const before = news;
    const found = await now("server/plr/status");
    known.away = false;
    // What was heard meanwhile is newer.
    if (news === before) take(found);
    else again = true;
    // How a print ended is known a moment after its end.
    lastOutage();
  }
  known.info = await now("server/info");
  known.away = false;
  const ready = known.info.klippy_state === "ready";
  if (!ready) place.forget();
  known.message = ready ? "" : await reason();
  if (ready && (state() === "interrupted" || state() === "resuming")) {
    const active = encodeURIComponent(known.status.record?.extruder ?? "extruder");
    known.heat = (await perhaps(`${HEAT}&${active}=temperature`))?.status ?? null;
    place.takeBed(known.heat?.toolhead);
  }
  render();
}

/** What the page can do without: null if there is no answer. */
async function perhaps(path) {
  try {
    return await now(path);
  } catch (error) {
    if (error instanceof NeedsLogin) throw error;
    return null;
  }
}

/** Why Klipper is not ready, if it can still say so. */
async function reason() {
  if (!["shutdown", "error"].includes(known.info.klippy_state)) return "";
  return (await perhaps("printer/info"))?.state_message ?? "";
}

const state = () => known.status?.state;

function take(status) {
  const before = state();
  known.status = status;
  if (before !== status.state) {
    if (before) known.error = "";
    // Where the nozzle is, and what is hot, is another thing now.
    place.forget();
    if (before === "resuming" && status.state === "printing") {
      view.note("said", "The print goes on.");
    }
  }
  render();
}

async function lastOutage() {
  if (!["idle", "printing"].includes(state())) {
    view.lastOutage(null);
    return;
  }
  const found = await perhaps("server/plr/history?limit=1").catch(failed);
  view.lastOutage(found?.outages[0]);
}

function heard(method, params) {
  news += method.startsWith("notify_plr_");
  if (method === "notify_plr_status_changed") {
    const before = state();
    take(params[0]);
    if (state() !== before) refresh(true);
  } else if (method === "notify_plr_resume_progress" && known.status) {
    take({ ...known.status, step: params[0] });
  } else if (method.startsWith("notify_klippy_")) refresh(true);
}

// Showing

function trouble() {
  const { status, away, error } = known;
  if (away) return "No connection to the printer. Trying again.";
  const klippy = view.klippyTrouble(known.info, known.message);
  if (klippy) return klippy;
  if (error) return error;
  return status?.last_error || status?.trouble || "";
}

function render() {
  const { status, closed, away } = known;
  view.text("connection", closed ? "Not logged in" : away ? "No connection"
    : !status ? "Connecting" : live.up === false ? "Connected, asking every 2 s"
    : "Connected");
  view.note("trouble", closed ? "" : trouble());
  const seen = status !== null && !closed;
  const offered = seen && state() === "interrupted";
  if (seen) {
    view.status(status);
    view.temperatures(status, known.heat);
  } else view.show("state", false);
  view.show("where", offered || (seen && state() === "resuming"));
  for (const id of ["place", "plan"]) view.show(id, offered);
  if (seen) answers(offered);
  else view.show("actions", false);
  place.said = status?.warnings ?? [];
  if (offered && ready() && !away && status.record) place.begin(status.record);
}

const ready = () => known.info?.klippy_state === "ready";

function answers(offered) {
  const { status, away, acting } = known;
  const stoppable = state() === "resuming" || status.auto_resume.seconds_left !== null;
  view.show("actions", offered || stoppable);
  view.show("resume", offered);
  view.show("discard", offered);
  view.show("cancel", stoppable);
  const elsewhere = place.place.position !== undefined;
  const planned = !elsewhere || place.plannedHere?.answer !== undefined;
  view.allow("resume", offered && !away && !acting && ready() && planned);
  view.allow("discard", offered && !away && !acting);
  view.allow("cancel", stoppable && !away && !acting);
  view.text("cancel", state() === "resuming" ? "Cancel" : "Stop");
  view.text("resume-note", !offered ? "Cancel: heaters off, nozzle up, nothing lost."
    : away ? "There is no connection."
    : !ready() ? "Klipper has to be ready for it."
    : acting ? "The printer is asked."
    : !planned && place.plannedHere ? "It cannot go on there."
    : !planned ? "What will be done there is not known yet."
    : "Is the part still on the bed, and nothing in the way? It heats and moves.");
}

// Answering

async function act(id, path, body) {
  if (!view.allowed(id)) return;
  known.acting = true;
  known.error = "";
  view.note("said", "");
  render();
  try {
    const answer = await post(path, body);
    if (answer.state) take(answer);
    await refresh(true);
    if (id === "discard") view.note("said", "Discarded.");
  } catch (error) {
    failed(error);
  } finally {
    known.acting = false;
    render();
  }
}

view.el("resume").addEventListener("click", () => {
  act("resume", "server/plr/resume", place.place);
});
view.el("cancel").addEventListener("click", () => act("cancel", "server/plr/cancel"));
view.el("discard").addEventListener("click", () => {
  if (view.allowed("discard")) view.el("sure").showModal();
});
view.el("sure-no").addEventListener("click", () => view.el("sure").close());
view.el("sure-yes").addEventListener("click", () => {
  view.el("sure").close();
  act("discard", "server/plr/discard");
});

// Beginning

async function start() {
  known.closed = false;
  try {
    if (await mustLogIn()) throw new NeedsLogin("log in");
  } catch (error) {
    failed(error);
    if (known.closed) return;
  }
  await refresh(true);
  live.open();
}

let ticks = 0;
setInterval(() => {
  if (document.hidden || known.closed) return;
  ticks += 1;
  const counting = known.status?.auto_resume.seconds_left != null;
  refresh(!live.up || counting || ticks % WHOLE === 0);
}, PERIOD);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh(true);
});
start();
