// SPDX-License-Identifier: MIT
// Metrics below one another, each with its name, a small plot and a reason.

import { metricLink } from "./address.js";
import { get, metricPath } from "./api.js";
import { h } from "./dom.js";

const POINTS = 240;

/** A row of the list, and its canvas, which is still empty.  view: what the metric's own page shows. */
export function multiple({ uid, name, note, reason, view }) {
  const canvas = h("canvas", { "data-width": 420, "data-height": 44, role: "img", "aria-label": `${name}: ${reason}` });
  const element = h(
    "div",
    { class: "multiple" },
    h("div", {}, h("a", { class: "mono", href: metricLink(uid, view) }, name), h("span", { class: "muted small block" }, note)),
    canvas,
    h("p", { class: "small" }, reason),
  );
  return { element, canvas };
}

/** What the API answers for the small plot, "plot" or "evidence"; null for a metric that is gone. */
export async function smallPlot(uid, what, { from, until }, signal) {
  try {
    return await get(metricPath(uid, `/${what}`), { from: Math.round(from), until: Math.round(until), points: POINTS }, signal);
  } catch (error) {
    if (error.status !== 404) throw error;
    return null;
  }
}
