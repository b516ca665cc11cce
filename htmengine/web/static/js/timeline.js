// SPDX-License-Identifier: MIT
// Anomalies in time: a lane for each metric, a mark for each anomaly.

import { metricLink } from "./address.js";
import { h, svg } from "./dom.js";
import * as format from "./format.js";
import { LEVELS, levelOf } from "./scores.js";

const LANE = 26;
const HEAD = 24;
const RADIUS = 5;
const MOST_LANES = 24;
//: A click on a mark shows so much time around it.
const AROUND_S = 43200;
//: Each at most twice the one before, so that there is always a line.
const STEPS_S = [60, 120, 240, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 302400, 604800, 1209600, 2419200, 4838400, 9676800, 19353600];
//: Room for a label, and for each of its letters, in pixels.
const LABEL = 85;
const LETTER = 7;

/** An element with the lanes of the metrics with the most anomalies, in `width` pixels; `range` is {from, until}. */
export function timeline(anomalies, range, width) {
  const lanes = [...lanesOf(anomalies)].slice(0, MOST_LANES);
  const hidden = new Set(anomalies.map(({ uid }) => uid)).size - lanes.length;
  const names = lanes.map(({ uid, name, rows }) =>
    h("li", {}, h("a", { class: "mono", href: metricLink(uid), title: name }, name), h("span", { class: "muted" }, format.count(rows.length))),
  );
  const picture = draw(lanes, range, width);
  return h(
    "div",
    {},
    h("div", { class: "lanes" }, h("ul", { class: "lane-names", "aria-label": "Metrics with anomalies, and how many" }, ...names), picture),
    hidden > 0 ? h("p", { class: "muted small" }, `and ${format.count(hidden)} more metrics in the table`) : null,
  );
}

function lanesOf(anomalies) {
  const lanes = new Map();
  for (const anomaly of anomalies) {
    if (!lanes.has(anomaly.uid)) lanes.set(anomaly.uid, { uid: anomaly.uid, name: anomaly.name, rows: [] });
    lanes.get(anomaly.uid).rows.push(anomaly);
  }
  return [...lanes.values()].sort((one, other) => other.rows.length - one.rows.length || (one.name < other.name ? -1 : 1));
}

function draw(lanes, { from, until }, width) {
  const height = HEAD + lanes.length * LANE;
  const x = (timestamp) => RADIUS + ((timestamp - from) / Math.max(1, until - from)) * (width - 2 * RADIUS);
  const y = (lane) => HEAD + lane * LANE + LANE / 2;
  const found = ticks(from, until, width);
  const grid = found.map(({ at }) => svg("line", { class: "tick", x1: x(at), x2: x(at), y1: HEAD - 4, y2: height }));
  const labels = labelled(found, x, width).map(({ start, text }) => svg("text", { class: "tick-text", x: start, y: HEAD - 8 }, text));
  const lines = lanes.map((_, lane) => svg("line", { class: "lane", x1: 0, x2: width, y1: y(lane), y2: y(lane) }));
  const marks = lanes.flatMap(({ rows }, lane) =>
    mildFirst(rows).map((anomaly) => mark(anomaly, x(anomaly.timestamp), y(lane))),
  );
  const description = `${lanes.length} metrics from ${format.time(from)} to ${format.time(until)}; the table below has the same`;
  return svg(
    "svg",
    { class: "timeline", role: "img", "aria-label": `Timeline of anomalies: ${description}`, width, height, viewBox: `0 0 ${width} ${height}` },
    ...grid,
    ...labels,
    ...lines,
    ...marks,
  );
}

/** What is drawn later covers what was drawn before. */
const mildFirst = (rows) => [...rows].sort((one, other) => one.anomaly_score - other.anomaly_score);

function mark({ uid, name, timestamp, value, anomaly_score: score }, x, y) {
  const level = levelOf(score);
  const shape =
    level === "anomalous"
      ? `M${x} ${y - RADIUS - 1}l${RADIUS + 1} ${RADIUS + 1}l${-RADIUS - 1} ${RADIUS + 1}l${-RADIUS - 1} ${-RADIUS - 1}z`
      : `M${x} ${y - RADIUS}l${RADIUS} ${1.8 * RADIUS}h${-2 * RADIUS}z`;
  const words = `${name}\n${format.time(timestamp)} · ${format.value(value)}\n${format.score(score)} ${LEVELS[level].word}`;
  const go = () => {
    location.hash = metricLink(uid, { from: timestamp - AROUND_S, until: timestamp + AROUND_S });
  };
  return svg("path", { class: `mark ${level}`, d: shape, onclick: go }, svg("title", {}, words));
}

function ticks(from, until, width) {
  const most = Math.max(2, Math.floor(width / LABEL));
  const step = STEPS_S.find((seconds) => (until - from) / seconds <= most);
  if (!step) return years(from, until, most);
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= until; at += step) {
    const text = format.time(at);
    found.push({ at, text: step >= 86400 ? text.slice(0, 10) : text.slice(5, 16) });
  }
  return found;
}

/** Labels right of their lines, or before the end if there is no room; one that would cover another is left out. */
function labelled(marks, x, width) {
  const found = [];
  let end = 0;
  for (const { at, text } of marks) {
    const start = Math.min(x(at) + 3, width - LETTER * text.length);
    if (start < end) continue;
    found.push({ start, text });
    end = start + LETTER * text.length;
  }
  return found;
}

/** The first of January of every year, or of every few. */
function years(from, until, most) {
  const yearOf = (epoch) => new Date(epoch * 1000).getFullYear();
  const step = Math.ceil((yearOf(until) - yearOf(from)) / most);
  const found = [];
  for (let year = Math.ceil(yearOf(from) / step) * step; year <= yearOf(until); year += step) {
    const at = new Date(year, 0, 1).getTime() / 1000;
    if (at >= from) found.push({ at, text: String(year) });
  }
  return found;
}
