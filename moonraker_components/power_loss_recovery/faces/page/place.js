// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// Where the print shall go on: chosen, drawn, and what would be done then.

import { get, post, Refused } from "./api.js";
import { draw, inWords } from "./drawing.js";
import { el, list, show, text } from "./view.js";

const MOST_LAYERS = 40; // kept, each up to some 100 KB
const WAIT = 150; // ms for which a slider stands still

/** Temperatures and times in a sentence go on. */
const plain = (line) => line.replace(/\d+/g, "0");
const alike = (a, b) => plain(a) === plain(b);

export class Place {
  /** failed(error): for what is no answer about the file. changed(): look again. */
  constructor(failed, changed) {
    this.failed = failed;
    this.changed = changed;
    this.reset();
    this.key = "";
    this.said = []; // warnings that stand elsewhere on the page
    el("at-saved").addEventListener("change", () => this.chosen());
    el("at-layer").addEventListener("change", () => this.chosen());
    el("slider").addEventListener("input", () => this.slid());
    el("lower").addEventListener("click", () => this.step(-1));
    el("higher").addEventListener("click", () => this.step(1));
    el("zoom").addEventListener("change", () => this.paint());
    new ResizeObserver(() => this.paint()).observe(el("drawing"));
    matchMedia("(prefers-color-scheme: dark)")
      .addEventListener("change", () => this.paint());
  }

  reset() {
    this.points = [];
    this.layers = new Map();
    this.plans = new Map(); // by position: {answer} or {refused}
    this.asking = false;
    this.bed = null;
    this.layer = null;
    this.timer = 0;
  }

  /** Of the interrupted print `record`; again only if that is another. */
  async begin(record) {
    const key = `${record.file} ${record.file_position} ${record.saved_at}`;
    if (key === this.key) return;
    this.reset();
    this.key = key;
    el("at-saved").checked = true;
    text("saved-label", `Where it stopped${record.layer === null ? ""
      : ` (layer ${record.layer})`}, Z ${record.z.toFixed(2)} mm`);
    text("drawing-text", "The file is being read.");
    this.paint();
    this.showPlan();
    try {
      const [layer, found] = await Promise.all([
        get("server/plr/layer"), get("server/plr/points"),
      ]);
      if (key !== this.key) return;
      this.take(found.points, layer);
    } catch (error) {
      this.refused(error, key);
    }
    // Last: it has most of the file read, and would slow the drawing down.
    this.plan();
  }

  /** What is drawn stays; the next begin() asks anew. */
  forget() {
    this.key = "";
    this.asking = false;
    clearTimeout(this.timer);
  }

  refused(error, key) {
    if (key !== this.key) return;
    if (error instanceof Refused) text("drawing-text", error.message);
    else this.failed(error);
  }

  take(points, saved) {
    this.points = points;
    this.layers.set("", saved);
    const slider = el("slider");
    slider.max = String(Math.max(points.length - 1, 0));
    const at = points.findIndex((p) => p.file_position === saved.file_position);
    // Somebody may have been quicker than the file.
    if (el("at-saved").checked) slider.value = String(Math.max(at, 0));
    show("place", points.length > 0);
    this.label();
    this.look();
    this.changed();
  }

  // What is chosen

  /** The parameters of a resume: none for the saved place. */
  get place() {
    const point = this.points[Number(el("slider").value)];
    if (el("at-saved").checked || !point) return {};
    // Numbers of layers need not be unique.
    return { position: point.file_position };
  }

  get plannedHere() {
    return this.plans.get(String(this.place.position ?? ""));
  }

  step(by) {
    el("slider").value = String(Number(el("slider").value) + by);
    this.slid();
  }

  slid() {
    el("at-layer").checked = true;
    this.chosen();
  }

  chosen() {
    this.label();
    this.showPlan();
    this.changed();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.look();
      this.plan();
    }, WAIT);
  }

  label() {
    const point = this.points[Number(el("slider").value)];
    if (!point) return;
    const z = point.z === null ? "" : `, Z ${point.z.toFixed(2)} mm`;
    const words = `Layer ${point.layer}${z}, ${(100 * point.share).toFixed(0)} % done`;
    el("slider").setAttribute("aria-valuetext", words);
    text("slider-text", words);
  }

  // The drawing

  async look() {
    const { position } = this.place;
    const name = String(position ?? ""), key = this.key;
    try {
      if (!this.layers.has(name)) {
        const found = await get(`server/plr/layer?position=${position}`);
        if (key !== this.key) return;
        if (this.layers.size >= MOST_LAYERS) {
          this.layers.delete([...this.layers.keys()].find((old) => old !== ""));
        }
        this.layers.set(name, found);
      }
    } catch (error) {
      this.refused(error, key);
      return;
    }
    if (name !== String(this.place.position ?? "")) return;
    this.layer = this.layers.get(name);
    this.paint();
  }

  get what() {
    const saved = el("at-saved").checked;
    return {
      layer: this.layer,
      bed: this.bed,
      purge: this.plannedHere?.answer?.purge ?? null,
      here: this.layer && (saved ? this.layer.seam : this.layer.begin),
      zoom: el("zoom").checked,
    };
  }

  paint() {
    draw(el("drawing"), this.what);
    const words = inWords(this.what);
    if (words) text("drawing-text", words);
  }

  // What would be done

  /** One question at a time: for some places the whole file is read. */
  async plan() {
    const place = this.place, name = String(place.position ?? ""), key = this.key;
    this.showPlan();
    if (this.asking || this.plans.has(name) || !key) return;
    this.asking = true;
    let made;
    try {
      made = { answer: await post("server/plr/resume", { ...place, dry_run: true }) };
    } catch (error) {
      if (error instanceof Refused) made = { refused: error.message };
      else this.failed(error);
    }
    if (key !== this.key) return;
    this.asking = false;
    if (made) this.plans.set(name, made);
    this.showPlan();
    this.paint();
    this.changed();
    if (made && name !== String(this.place.position ?? "")) this.plan();
  }

  showPlan() {
    const made = this.plannedHere;
    text("plan-state", made ? made.refused ?? "" : "The file is being read.");
    show("plan-state", !made?.answer);
    const warnings = (made?.answer?.warnings ?? [])
      .filter((line) => !this.said.some((said) => alike(said, line)));
    list("plan-warnings", warnings);
    show("plan-warnings", warnings.length > 0);
    list("steps", made?.answer?.steps ?? []);
  }

  /** What the machine is like: [x_min, y_min, x_max, y_max] of its bed. */
  takeBed(toolhead) {
    if (!toolhead) return;
    const [x0, y0] = toolhead.axis_minimum, [x1, y1] = toolhead.axis_maximum;
    const bed = [x0, y0, x1, y1];
    if (String(bed) === String(this.bed)) return;
    this.bed = bed;
    this.paint();
  }
}
