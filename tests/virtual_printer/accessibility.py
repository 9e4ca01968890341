# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""What would keep somebody from using a page: computed in the page as it is shown.

Contrast as WCAG 2.1 has it (1.4.3: 4.5 for text, 3 for large text; 1.4.11: 3 for
graphics); names and roles from Chromium's own accessibility tree.
"""
from __future__ import annotations

from typing import Any

NEED_NAMES = {
    "button", "checkbox", "combobox", "dialog", "figure", "group", "image", "img",
    "list", "progressbar", "radio", "region", "slider", "table", "textbox", "Canvas",
}  # fmt: skip
# In the order of the file; what the browser itself puts last or first is not ours.
FOCUSABLE = "a[href], button, input, select, textarea, [tabindex='0']"

CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92
    : Math.pow((v + 0.055) / 1.055, 2.4);
  const light = ([r, g, b]) =>
    0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const parse = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return { rgb: n.slice(0, 3), alpha: n.length > 3 ? n[3] : 1 };
  };
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.alpha > 0) layers.push(found);
      if (found.alpha === 1) break;
    }
    return layers.reverse().reduce((under, over) =>
      under.map((v, i) => v * (1 - over.alpha) + over.rgb[i] * over.alpha),
      [255, 255, 255]);
  };
  const probe = document.createElement("i");
  document.body.append(probe);
  const named = (name) => {
    probe.style.setProperty("color", `var(--${name})`);
    return parse(getComputedStyle(probe).color).rgb;
  };
  const found = [];
  let count = 0;
  for (const node of document.body.querySelectorAll("*")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!own || !node.checkVisibility({ visibilityProperty: true })) continue;
    count += 1;
    const style = getComputedStyle(node), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const has = ratio(parse(style.color).rgb, behind(node));
    if (has < (large ? 3 : 4.5)) {
      const start = node.textContent.trim().slice(0, 30);
      found.push(`text ${node.id || node.tagName} "${start}" has ${has.toFixed(2)}`);
    }
  }
  for (const name of ["bed", "printed", "rest", "seam", "purge"]) {
    const has = ratio(named(name), named("canvas"));
    if (has < 3) found.push(`${name} in the drawing has ${has.toFixed(2)}`);
  }
  for (const name of ["edge", "accent"]) {
    for (const under of ["card", "page"]) {
      const has = ratio(named(name), named(under));
      if (has < 3) found.push(`${name} on ${under} has ${has.toFixed(2)}`);
    }
  }
  probe.remove();
  return { found, count };
}"""

STRUCTURE = """() => {
  const found = [];
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title) found.push("no title");
  const view = document.querySelector("meta[name=viewport]")?.content ?? "";
  if (/user-scalable|maximum-scale/.test(view)) found.push("zooming is forbidden");
  if (document.querySelectorAll("main").length !== 1) found.push("not one <main>");
  const shown = (node) => node.checkVisibility();
  const levels = [...document.querySelectorAll("h1,h2,h3,h4")].filter(shown)
    .map((node) => Number(node.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) found.push("not one <h1>");
  levels.forEach((level, i) => {
    if (i && level > levels[i - 1] + 1) found.push("a level of headings is left out");
  });
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  if (new Set(ids).size !== ids.length) found.push("an id is there twice");
  for (const live of ["trouble", "step", "said", "connection"]) {
    const role = document.getElementById(live).getAttribute("role");
    if (!["status", "alert"].includes(role)) found.push(`${live} is not told`);
  }
  const wide = document.scrollingElement;
  if (wide.scrollWidth > wide.clientWidth) {
    found.push(`${wide.scrollWidth} wide in a window of ${wide.clientWidth}`);
  }
  for (const node of document.querySelectorAll("button, select, input, .choice")) {
    const { width, height } = node.getBoundingClientRect();
    const inLabel = node.closest("label") && !node.matches(".choice");
    if (shown(node) && !inLabel && (height < 43.5 || width < 43.5)) {
      found.push(`${node.id || node.className} is ${width} x ${height}: too small`);
    }
  }
  return found;
}"""

FOCUS = """() => {
  const node = document.activeElement, style = getComputedStyle(node);
  const { left, top, width, height } = node.getBoundingClientRect();
  const over = document.elementFromPoint(left + width / 2, top + height / 2);
  return {
    id: node === document.body ? "" : node.id,
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    covered: !(over && (node.contains(over) || over.contains(node))),
  };
}"""


def problems(page: Any) -> list[str]:
    """Of the page as it is shown now, in words."""
    contrast = page.evaluate(CONTRAST)
    # A check that looks at nothing finds nothing.
    if contrast["count"] < 4:
        return [f"only {contrast['count']} texts are seen"]
    return [*contrast["found"], *page.evaluate(STRUCTURE), *_nameless(page)]


def _nameless(page: Any) -> list[str]:
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    found = []
    for node in nodes:
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role not in NEED_NAMES:
            continue
        if role == "list" and not node.get("name", {}).get("value"):
            continue  # a list says what it is
        if not node.get("name", {}).get("value", "").strip():
            found.append(f"a {role} has no name: {node.get('properties')}")
    return found


def focus_order(page: Any) -> list[str]:
    """Tab through the page: problems, or nothing.  Radio buttons are one stop."""
    expected = page.evaluate(
        """(what) => [...document.querySelectorAll(what)]
          .filter((node) => node.checkVisibility() && !node.disabled
            && !(node.type === "radio" && !node.checked)
            && !node.closest("dialog:not([open])"))
          .map((node) => node.id)""",
        FOCUSABLE,
    )
    # The next Tab goes on from where the last focus was, even if it is gone.
    page.evaluate("""() => {
      document.body.tabIndex = -1;
      document.body.focus();
      document.body.removeAttribute("tabindex");
    }""")
    seen, found = [], []
    for _ in range(len(expected)):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUS)
        seen.append(at["id"])
        if at["outline"] < 2:
            found.append(f"the focus on {at['id']} is not seen")
        if at["covered"]:
            found.append(f"{at['id']} is covered when it has the focus")
    if seen != expected:
        found.append(f"Tab goes {seen}, the page {expected}")
    return found
