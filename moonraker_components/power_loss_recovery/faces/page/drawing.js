// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// A layer, as plastic lies on the bed. Width and shape tell apart what colour does.

const MARGIN = 0.04;

function box(points, into = [Infinity, Infinity, -Infinity, -Infinity]) {
  for (let i = 0; i + 1 < points.length; i += 2) {
    into[0] = Math.min(into[0], points[i]);
    into[1] = Math.min(into[1], points[i + 1]);
    into[2] = Math.max(into[2], points[i]);
    into[3] = Math.max(into[3], points[i + 1]);
  }
  return into;
}

function view({ layer, bed, purge, zoom }) {
  const seen = box([]);
  for (const path of [...(layer?.printed ?? []), ...(layer?.rest ?? [])]) {
    box(path, seen);
  }
  if (!zoom) {
    if (bed) box(bed, seen);
    if (purge) box([purge.x, purge.y, purge.end_x, purge.end_y], seen);
  }
  return seen[0] <= seen[2] ? seen : (bed ?? [0, 0, 200, 200]);
}

/** {layer, bed: [x_min, y_min, x_max, y_max], purge, here: [x, y], zoom} */
export function draw(canvas, what) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const [x0, y0, x1, y1] = view(what);
  const scale = (1 - 2 * MARGIN)
    * Math.min(width / Math.max(x1 - x0, 1), height / Math.max(y1 - y0, 1));
  const px = (x) => width / 2 + (x - (x0 + x1) / 2) * scale;
  const py = (y) => height / 2 - (y - (y0 + y1) / 2) * scale;

  const lines = (paths, name, thick) => {
    pen.beginPath();
    for (const path of paths) {
      pen.moveTo(px(path[0]), py(path[1]));
      for (let i = 2; i + 1 < path.length; i += 2) pen.lineTo(px(path[i]), py(path[i + 1]));
    }
    pen.strokeStyle = colour(name);
    pen.lineWidth = thick;
    pen.lineJoin = pen.lineCap = "round";
    pen.stroke();
  };
  if (what.bed) {
    const [bx0, by0, bx1, by1] = what.bed;
    lines([[bx0, by0, bx1, by0, bx1, by1, bx0, by1, bx0, by0]], "bed", 2);
  }
  if (what.layer) {
    lines(what.layer.rest, "rest", 2);
    lines(what.layer.printed, "printed", Math.min(Math.max(0.45 * scale, 4), 7));
  }
  if (what.purge) {
    const { x, y, end_x, end_y } = what.purge;
    pen.setLineDash([8, 4]);
    lines([[x, y, end_x, end_y]], "purge", 4);
    pen.setLineDash([]);
  }
  if (what.here) mark(pen, px(what.here[0]), py(what.here[1]), colour("seam"));
}

function mark(pen, x, y, colour) {
  pen.beginPath();
  pen.arc(x, y, 7, 0, 2 * Math.PI);
  for (const [dx, dy] of [[1, 0], [0, 1], [-1, 0], [0, -1]]) {
    pen.moveTo(x + 7 * dx, y + 7 * dy);
    pen.lineTo(x + 14 * dx, y + 14 * dy);
  }
  pen.strokeStyle = colour;
  pen.lineWidth = 3;
  pen.stroke();
}

const at = ([x, y]) => `X ${x.toFixed(1)}, Y ${y.toFixed(1)}`;

/** The same for those who do not see it. */
export function inWords({ layer, purge, here }) {
  if (!layer) return "";
  const height = layer.z === null ? "" : `, Z ${layer.z.toFixed(2)} mm`;
  const some = layer.printed.length, more = layer.rest.length;
  const parts = [`Layer ${layer.layer}${height}: ` + (
    !some && !more ? "nothing is laid in it" : !some ? "not printed"
    : !more ? "printed" : "printed in part")];
  if (here) parts.push(`it goes on at ${at(here)}`);
  if (purge) {
    parts.push((purge.on_bed ? "purged on the bed" : "purged in the air")
      + ` from ${at([purge.x, purge.y])} to ${at([purge.end_x, purge.end_y])}`);
  }
  if (!layer.whole) parts.push("not all of it is drawn");
  return `${parts.join("; ")}.`;
}
