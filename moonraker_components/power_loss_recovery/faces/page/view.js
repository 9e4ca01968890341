// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// What is seen, from what is known. Texts from the printer only become textContent.

export const el = (id) => document.getElementById(id);

// A screen reader would say again what is written again.
export function text(id, value) {
  const node = el(id);
  if (node.textContent !== value) node.textContent = value;
}

export function show(id, shown) {
  if (el(id).hidden === shown) el(id).hidden = !shown;
}

/** A text that is there only while it says something. */
export function note(id, value) {
  text(id, value);
  show(id, value !== "");
}

export function list(id, items) {
  const node = el(id);
  const same = node.children.length === items.length
    && items.every((item, i) => node.children[i].textContent === item);
  if (same) return;
  node.replaceChildren(...items.map((item) => {
    const line = document.createElement("li");
    line.textContent = item;
    return line;
  }));
}

/** A button that cannot be pressed now; it can be reached, and its note says why. */
export function allow(id, allowed) {
  el(id).setAttribute("aria-disabled", String(!allowed));
}

export const allowed = (id) => el(id).getAttribute("aria-disabled") !== "true";

const TITLES = {
  idle: "Nothing to resume",
  printing: "Printing",
  ending: "The print is over",
  interrupted: "Print interrupted",
  resuming: "Resuming",
};
const KLIPPY = {
  startup: "Klipper is starting.",
  shutdown: "Klipper is shut down.",
  error: "Klipper has an error.",
  disconnected: "Klipper is not running.",
};

const degrees = (value) => typeof value === "number" ? value.toFixed(0) : "unknown";

export function klippyTrouble(info, message) {
  if (!info || info.klippy_state === "ready") return "";
  const words = KLIPPY[info.klippy_state] ?? `Klipper is ${info.klippy_state}.`;
  const why = message ? ` It says: ${message}` : "";
  return `${words} The print can be resumed when Klipper is ready.${why}`;
}

export function status(known) {
  const { state, meaning, record, interruption, waiting, auto_resume: auto } = known;
  const open = state === "interrupted" || state === "resuming";
  show("state", true);
  text("state-title", open && record ? `${TITLES[state]}: ${record.file}`
    : TITLES[state] ?? state);
  text("meaning", open && interruption ? `${interruption.words}. ${meaning}` : meaning);
  note("summary", record?.summary ? `${record.summary}.` : "");
  list("warnings", state === "interrupted" ? known.warnings : []);
  show("warnings", state === "interrupted" && known.warnings.length > 0);
  const left = auto.seconds_left;
  note("countdown", left === null ? ""
    : `It resumes by itself in ${left.toFixed(0)} s, unless you stop it.`);
  // The first is the one that is offered.
  const others = state === "interrupted" ? waiting.slice(1) : waiting;
  note("others", others.length && state !== "resuming"
    ? `Also waiting: ${others.join("; ")}` : "");
  progress(known.step, state === "resuming");
}

function progress(step, shown) {
  show("progress", shown);
  if (!shown) {
    text("step", "");
    return;
  }
  el("bar").max = step?.of ?? 1;
  el("bar").value = step ? step.number - 1 : 0;
  text("step", step ? `Step ${step.number} of ${step.of}: ${step.title}`
    : "It begins.");
}

/** heat: by heater, as Klipper tells it; null while nobody knows. */
export function temperatures(known, heat) {
  const record = known.record;
  const shown = record !== null
    && (known.state === "interrupted" || known.state === "resuming");
  show("temperatures", shown);
  if (!shown) return;
  text("hotend-then", degrees(record.hotend));
  text("bed-then", degrees(record.bed));
  text("hotend-now", degrees(heat?.[record.extruder]?.temperature));
  text("bed-now", degrees(heat?.heater_bed?.temperature ?? record.bed_now));
}

const ENDS = {
  complete: "it was resumed and is complete",
  resumed: "it was resumed",
  cancelled: "it was resumed and then cancelled",
  interrupted: "it was resumed and interrupted again",
  discarded: "it was discarded",
  replaced: "another print took its place",
};

export function lastOutage(outage) {
  const ended = outage && ENDS[outage.ended];
  note("last", ended ? `The last outage: ${outage.file}, Z ${outage.z.toFixed(2)} mm;`
    + ` ${ended}.` : "");
}
