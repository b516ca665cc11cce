// SPDX-License-Identifier: MIT
// One incident in full: why, its metrics on one axis of time, what else moved, what people did.

import { metricLink } from "./address.js";
import { tolerate } from "./api.js";
import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { acknowledge, mark, silence } from "./incident_actions.js";
import { gravity, laterText, pagedText, shortWhy, sinceText, whyText } from "./incident_words.js";
import { multiple, smallPlot } from "./multiples.js";
import { drawMultiple } from "./plot/multiple.js";
import { LEVELS } from "./scores.js";

const BEFORE_S = 3 * 3600;
const AFTER_S = 1800;
//: Metrics that are drawn at first.
const FIRST = 8;

/** The address of an incident. */
export const incidentLink = ({ id }) => `#/incidents/${encodeURIComponent(id)}`;

/** A badge of an incident's state. */
export function stateBadge(incident) {
  const level = gravity(incident);
  const word = incident.phase === "OVER" ? "over" : "open";
  return h("span", { class: `score ${level}` }, h("span", { class: "shape", "aria-hidden": "true" }, LEVELS[level].shape), word);
}

/**
 * Fill `panel` with an incident as the API tells it.  changed(): somebody did something about it.  signal: gives up what
 * is still being loaded.
 */
export function showIncident(panel, incident, { changed, signal }) {
  const root = incident.metrics[0];
  const range = { from: incident.timestamp - BEFORE_S, until: Math.max(incident.last_timestamp + AFTER_S, incident.timestamp + AFTER_S) };
  const rows = h("div", { class: "multiples" });
  const more = h("button", { type: "button", onclick: () => showAll() }, `Show all ${format.counted(incident.members, "metric")}`);
  const showAll = () => {
    more.remove();
    fillRows(rows, incident.metrics, range, signal);
  };
  if (incident.metrics.length <= FIRST) more.hidden = true;
  fill(
    panel,
    head(incident, changed),
    root ? h("p", { class: "why" }, h("strong", {}, "Why. "), whyText(root), followers(incident)) : null,
    h("p", { class: "multiples-head muted small" }, h("span", {}, "value, and what was expected"), h("span", {}, `${format.time(range.from)} – ${format.time(range.until)}, ${format.timeZone}`)),
    rows,
    h("p", { class: "more" }, more),
    others(incident),
    similar(incident),
    events(incident),
  );
  fillRows(rows, incident.metrics.slice(0, FIRST), range, signal);
}

function head(incident, changed) {
  const button = (text, action, primary = false) =>
    h("button", { type: "button", class: primary ? "primary" : "", onclick: async () => (await action()) && changed() }, text);
  return h(
    "div",
    { class: "incident-head" },
    h("div", { class: "page-head" }, h("h2", {}, incident.title), stateBadge(incident)),
    h(
      "div",
      { class: "button-row" },
      incident.acknowledged_at ? null : button("Acknowledge…", () => acknowledge(incident), true),
      button("Silence…", () => silence(incident)),
      button("Right…", () => mark(incident, "right")),
      button("Fine…", () => mark(incident, "fine")),
    ),
    h("p", { class: "muted small" }, `${sinceText(incident, Date.now() / 1000)} · ${pagedText(incident)} · rule ${incident.rule}${seenTo(incident)}`),
  );
}

const seenTo = ({ acknowledged_by: who, acknowledged_at: at }) => (at ? ` · acknowledged by ${who} ${format.time(Math.round(at))}` : "");

const followers = ({ metrics: [, ...rest] }) => (rest.length ? ` ${format.counted(rest.length, "metric")} followed.` : "");

function fillRows(box, members, range, signal) {
  const drawings = members.map((member) => memberRow(member, members[0]));
  fill(box, ...drawings.map(({ element }) => element));
  load(drawings, range, signal).catch(tolerate);
}

function memberRow(member, first) {
  const view = { from: member.timestamp - BEFORE_S, until: member.last_timestamp + BEFORE_S };
  const row = multiple({ uid: member.uid, name: member.metric, note: laterText(member, first), reason: shortWhy(member), view });
  return { ...row, member };
}

/** One after the other: what was expected is found by replay. */
async function load(drawings, range, signal) {
  for (const { canvas, member } of drawings) {
    const span = { from: member.timestamp, until: member.last_timestamp };
    const plot = await smallPlot(member.uid, "plot", range, signal);
    if (!plot) continue;
    drawMultiple(canvas, plot, null, range, span);
    const evidence = await smallPlot(member.uid, "evidence", range, signal);
    if (evidence) drawMultiple(canvas, plot, evidence, range, span);
  }
}

function others({ others: found }) {
  if (!found.length) return null;
  const items = found.map(({ uid, name, timestamp, value }) =>
    h("li", {}, h("a", { class: "mono", href: metricLink(uid, { from: timestamp - BEFORE_S, until: timestamp + BEFORE_S }) }, name), h("span", { class: "muted" }, `${format.value(value)} at ${format.time(timestamp)}, unusual but no alarm`)),
  );
  return h("section", { "aria-label": "What else moved" }, h("h3", {}, "What else moved"), h("ul", { class: "plain-list" }, ...items));
}

function similar({ similar: found }) {
  if (!found.length) return null;
  const items = found.map((incident) =>
    h("li", {}, h("a", { href: incidentLink(incident) }, incident.title), h("span", { class: "muted" }, `${sinceText(incident, Date.now() / 1000)}, ${format.counted(incident.shared, "metric")} in common`)),
  );
  return h("section", { "aria-label": "Similar incidents" }, h("h3", {}, "Similar incidents"), h("ul", { class: "plain-list" }, ...items));
}

function events({ events: found }) {
  if (!found.length) return null;
  const items = found.map(({ at, who, what, note }) => h("li", {}, h("span", {}, `${who}: ${what}${note ? `, ${note}` : ""}`), h("span", { class: "muted" }, format.time(Math.round(at)))));
  return h("section", { "aria-label": "What people did" }, h("h3", {}, "What people did"), h("ul", { class: "plain-list" }, ...items));
}
