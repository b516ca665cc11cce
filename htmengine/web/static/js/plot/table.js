// SPDX-License-Identifier: MIT
// The plot's data as a table, for those who do not see pictures or want the numbers.

import { h } from "../dom.js";
import * as format from "../format.js";
import { scoreMark } from "../scores.js";
import { rowsIn } from "./columns.js";

const MOST_ROWS = 100;

/** A box that opens; `update(plot, view)` fills it while it is open. */
export function plotTable() {
  const body = h("tbody");
  const caption = h("caption");
  const table = h(
    "table",
    {},
    caption,
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, `Time (${format.timeZone})`),
        ...["Value", "Least", "Greatest", "Anomaly score"].map((text) => h("th", { scope: "col", class: "number" }, text)),
      ),
    ),
    body,
  );
  const scroll = h("div", { class: "scroll-box", tabindex: "0", role: "region", "aria-label": "Data of the plot" }, table);
  const element = h("details", { class: "data-table" }, h("summary", {}, "Data as a table"), scroll);
  let shown = null;

  function fillTable() {
    if (!element.open || !shown) return;
    const inView = rowsIn(shown.plot, shown.view);
    const rows = greatest(inView, MOST_ROWS);
    caption.textContent =
      rows.length < inView.length
        ? `The ${MOST_ROWS} of ${format.count(inView.length)} rows in view with the greatest scores, newest first`
        : `${format.count(rows.length)} rows, newest first`;
    body.replaceChildren(...rows.map(tableRow));
  }

  element.addEventListener("toggle", fillTable);
  const update = (plot, view) => {
    shown = { plot, view };
    fillTable();
  };
  return { element, update };
}

function greatest(rows, most) {
  const kept = [...rows].sort((one, other) => (other.anomaly_score ?? -1) - (one.anomaly_score ?? -1)).slice(0, most);
  return kept.sort((one, other) => other.timestamp - one.timestamp);
}

function tableRow({ timestamp, last, min, max, anomaly_score: score }) {
  const number = (value) => h("td", { class: "number" }, format.value(value));
  return h(
    "tr",
    {},
    h("td", {}, format.time(timestamp)),
    number(last),
    number(min),
    number(max),
    h("td", { class: "number" }, scoreMark(score)),
  );
}
