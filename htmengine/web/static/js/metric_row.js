// SPDX-License-Identifier: MIT
// One metric as a row of the overview.

import { metricLink } from "./address.js";
import { h, setText } from "./dom.js";
import * as format from "./format.js";
import { showScore } from "./scores.js";
import { drawSparkline } from "./sparkline.js";
import { showState } from "./states.js";

const COLUMNS = [
  ["name", "Metric"],
  ["spark", "Last 60 samples"],
  ["value", "Value"],
  ["anomaly", "Anomaly score"],
  ["when", "Last sample"],
  ["status", "State"],
];

/** The row of headings. */
export function tableHead() {
  const cells = COLUMNS.map(([name, text]) => h("div", { class: `cell ${name}`, role: "columnheader" }, text));
  return h("div", { class: "table-head", role: "rowgroup" }, h("div", { class: "metric-row", role: "row", "aria-rowindex": 1 }, ...cells));
}

/** An empty row. */
export function makeRow() {
  const link = h("a", { class: "mono" });
  const spark = h("canvas", { class: "sparkline", "aria-hidden": "true", "data-width": 220, "data-height": 30 });
  const value = h("span");
  const score = h("span");
  const when = h("span");
  const state = h("span");
  const contents = [link, spark, value, score, when, state];
  const cells = contents.map((content, index) => h("div", { class: `cell ${COLUMNS[index][0]}`, role: "cell" }, content));
  const row = h("div", { class: "metric-row body", role: "row" }, ...cells);
  return Object.assign(row, { control: link, parts: { link, spark, value, score, when, state } });
}

/** Show a metric, or a place for one that is not loaded yet. */
export function fillRow(row, metric, rows) {
  row.classList.toggle("waiting", !metric);
  if (!metric) return;
  const { link, spark, value, score, when, state } = row.parts;
  setText(link, metric.name);
  link.title = metric.text ?? metric.name;
  link.href = metricLink(metric.uid);
  setText(value, format.value(metric.last_value ?? metric.newest?.value) + (metric.unit ? ` ${metric.unit}` : ""));
  setText(when, metric.last_timestamp === null ? "none yet" : format.ago(metric.last_timestamp));
  showScore(score, metric.newest?.anomaly_score);
  showState(state, metric.status);
  drawSparkline(spark, rows);
}
