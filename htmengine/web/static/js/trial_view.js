// SPDX-License-Identifier: MIT
// A rule tried on the stored past: its pages with their pictures, then what it would have held back.

import { tolerate } from "./api.js";
import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { multiple, smallPlot } from "./multiples.js";
import { drawMultiple } from "./plot/multiple.js";

const AROUND_S = 3 * 3600;
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
  const note = [format.time(incident.timestamp), ...Object.entries(incident.labels).map(([name, value]) => `${name}=${value}`)].join(" · ");
  const row = multiple({ uid: first.uid, name: incident.title, note, reason: incident.reason, view });
  return { ...row, incident, view };
}

const line = (incident) => h("li", {}, h("span", {}, `${format.time(incident.timestamp)} · ${incident.title}`), h("span", { class: "muted" }, `${incident.verdict} · ${incident.reason}`));

async function load(pages, signal) {
  for (const { canvas, incident, view } of pages) {
    const plot = await smallPlot(incident.metrics[0].uid, "plot", view, signal);
    if (plot) drawMultiple(canvas, plot, null, view, { from: incident.timestamp, until: incident.until });
  }
}
