// SPDX-License-Identifier: MIT
// A rule tried on the stored past: its pages with their pictures, then what it would have held back.

import { metricLink } from "./address.js";
import { get, metricPath, tolerate } from "./api.js";
import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { drawMultiple } from "./plot/multiple.js";

const AROUND_S = 3 * 3600;
const POINTS = 240;
//: Pages with a picture; the others are lines.
const PICTURES = 12;

/** Fill `panel` with what the API's preview tells. */
export function showTrial(panel, trial, signal) {
  const pages = trial.incidents.filter(({ paged }) => paged).map(page);
  const held = trial.incidents.filter(({ paged }) => !paged);
  fill(
    panel,
    h("h2", {}, `${format.counted(trial.pages, "page")} instead of ${format.count(trial.usual)}`),
    h("p", { class: "muted small" }, `Since ${format.time(trial.since)}, ${format.counted(trial.metrics, "metric")}. The other number is what a threshold of 0.99999 would have raised.`),
    trial.complete ? null : h("p", { class: "muted small" }, "Only a part is shown: there were more rows or incidents."),
    pages.length ? h("div", { class: "multiples" }, ...pages.map(({ element }) => element)) : h("p", {}, "It would have paged nobody."),
    held.length ? h("details", {}, h("summary", {}, `${format.counted(held.length, "incident")} without a page`), h("ul", { class: "plain-list" }, ...held.map(line))) : null,
  );
  load(pages.slice(0, PICTURES), signal).catch(tolerate);
}

function page(incident) {
  const [first] = incident.metrics;
  const view = { from: incident.timestamp - AROUND_S, until: incident.until + AROUND_S };
  const canvas = h("canvas", { "data-width": 420, "data-height": 44, role: "img", "aria-label": `${incident.title}: ${incident.reason}` });
  const element = h(
    "div",
    { class: "multiple" },
    h("div", {}, h("a", { class: "mono", href: metricLink(first.uid, view) }, incident.title), h("span", { class: "muted small block" }, format.time(incident.timestamp))),
    canvas,
    h("p", { class: "small" }, incident.reason),
  );
  return { element, canvas, incident, view };
}

const line = (incident) => h("li", {}, h("span", {}, `${format.time(incident.timestamp)} · ${incident.title}`), h("span", { class: "muted" }, `${incident.verdict} · ${incident.reason}`));

async function load(pages, signal) {
  for (const { canvas, incident, view } of pages) {
    const request = { from: view.from, until: view.until, points: POINTS };
    const plot = await get(metricPath(incident.metrics[0].uid, "/plot"), request, signal).catch(missing);
    if (plot) drawMultiple(canvas, plot, null, view, { from: incident.timestamp, until: incident.until });
  }
}

/** A metric that is gone has no plot. */
function missing(error) {
  if (error.status !== 404) throw error;
  return null;
}
