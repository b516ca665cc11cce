// SPDX-License-Identifier: MIT
// Where the fleet is unusual: a row for each host or part of names, a cell for each bucket of time.

import { h } from "./dom.js";
import * as format from "./format.js";

//: Shares of a part's unusual metrics from which a cell is darker.
const LEVELS = [0.5, 0.2, 0];

/** A table of what /unusual answers; empty parts are not there. */
export function heatTable({ from, step, parts }) {
  const rows = parts.map(({ part, metrics, unusual }) =>
    h("tr", {}, h("th", { scope: "row", class: "mono", title: part }, part), ...unusual.map((count, bucket) => cell(count, metrics, from + bucket * step))),
  );
  return h("table", { class: "heat", "aria-label": "Unusual metrics in time, by host" }, h("tbody", {}, ...rows));
}

function cell(count, metrics, at) {
  if (!count) return h("td");
  const text = `${format.time(at)}: ${format.counted(count, "metric")} unusual`;
  return h("td", { class: `heat-${levelOf(count / metrics)}`, title: text }, h("span", { class: "visually-hidden" }, text));
}

/** 1 to 3: how large a share of the part's metrics is. */
export const levelOf = (share) => LEVELS.length - LEVELS.findIndex((least) => share > least);
