// SPDX-License-Identifier: MIT
// Tables of a few rows: the first column names what the others tell of.

import { h } from "./dom.js";

/** A table with heads; `rows` are of `tableRow`. */
export function table(heads, rows) {
  const cells = heads.map((text, index) => h("th", { scope: "col", class: index ? "number" : "" }, text));
  return h("table", {}, h("thead", {}, h("tr", {}, ...cells)), h("tbody", {}, ...rows));
}

/** A row of text or elements. */
export function tableRow([first, ...others]) {
  return h("tr", {}, h("td", {}, first), ...others.map((what) => h("td", { class: "number" }, what)));
}
