// SPDX-License-Identifier: MIT
// All metrics as sparklines, most anomalous first.

import { addMetric } from "../actions.js";
import { remember } from "../address.js";
import { isAbort, tolerate } from "../api.js";
import { connection } from "../connection.js";
import { fill, h, hiddenLabel, select, setText } from "../dom.js";
import { emptyBox, errorBox } from "../empty.js";
import { sendingCommand } from "../engine.js";
import * as format from "../format.js";
import { subscribe } from "../live.js";
import { MetricList } from "../metric_list.js";
import { fillRow, makeRow, tableHead } from "../metric_row.js";
import { ANOMALOUS, UNUSUAL } from "../scores.js";
import { SparklineStore } from "../sparkline_store.js";
import { STATES } from "../states.js";
import { debounced, onceAFrame, repeated } from "../tasks.js";
import { onTheme } from "../theme.js";
import { announce } from "../toasts.js";
import { VirtualList } from "../virtual_list.js";

const REFRESH_MS = 10000;
//: Rows that stand there while the first page loads.
const PLACEHOLDERS = 12;
const TYPING_MS = 200;
const SCROLLING_MS = 60;

export function openMetrics(main, { query }) {
  document.title = "Metrics · HTM Engine";
  const page = new MetricsPage(main, query);
  page.load();
  return () => page.close();
}

class MetricsPage {
  #parts;
  #list = new MetricList(() => this.#show());
  #sparklines = new SparklineStore((uids) => this.#takeSparklines(uids));
  #rows;
  #redraw = onceAFrame(() => this.#rows.refill());
  #wantVisible = debounced((first, end) => this.#fetchSparklines(first, end), SCROLLING_MS);
  #typed = debounced(() => this.load(), TYPING_MS);
  #ends;

  constructor(main, query) {
    const load = () => this.load();
    this.#parts = layout(query, { typed: this.#typed, load, add: () => this.#add() });
    main.append(this.#parts.page);
    this.#rows = new VirtualList(this.#parts.scroll, this.#parts.rows, {
      makeRow,
      fillRow: (row, index) => fillRow(row, this.#list.at(index), this.#sparklines.of(this.#list.at(index)?.uid)),
      onVisible: this.#wantVisible,
    });
    this.#rows.show(PLACEHOLDERS);
    const slash = (event) => this.#slash(event);
    document.addEventListener("keydown", slash);
    connection.addEventListener("back", load);
    this.#ends = [
      () => document.removeEventListener("keydown", slash),
      () => connection.removeEventListener("back", load),
      onTheme(this.#redraw),
      repeated(() => this.#refresh(), REFRESH_MS),
      subscribe({ threshold: UNUSUAL }, (result) => this.#live(result), () => this.#refresh()),
      this.#typed.cancel,
      this.#wantVisible.cancel,
      this.#redraw.cancel,
      () => this.#rows.close(),
      () => this.#list.close(),
    ];
  }

  close() {
    this.#ends.forEach((end) => end());
  }

  async load() {
    const { table, message } = this.#parts;
    const { search, status, sort } = this.#filter;
    remember({ search, status, sort: sort === "name" ? sort : "" });
    table.classList.add("loading");
    try {
      const loaded = this.#list.load({ search, status, sort });
      this.#rows.toTop();
      await loaded;
      announce(format.counted(this.#list.total, "metric"));
    } catch (error) {
      if (isAbort(error)) return; // another search was faster
      table.hidden = true;
      fill(message, errorBox(error, () => this.load()));
      tolerate(error);
    }
  }

  get #filter() {
    const { search, status, sort } = this.#parts;
    return { search: search.value.trim(), status: status.value, sort: sort.value };
  }

  #show() {
    const { table, message, total } = this.#parts;
    const number = this.#list.total;
    setText(total, format.count(number));
    table.setAttribute("aria-rowcount", number + 1);
    table.classList.remove("loading");
    table.hidden = number === 0;
    fill(message, number === 0 ? this.#nothing() : null);
    this.#rows.show(number);
  }

  #fetchSparklines(first, end) {
    const uids = Array.from({ length: end - first }, (_, index) => this.#list.at(first + index)?.uid);
    this.#sparklines.want(uids.filter(Boolean)).catch(tolerate);
  }

  /** A sparkline's last rows may be newer than what the list has of its metric. */
  #takeSparklines(uids) {
    for (const uid of uids) {
      const { timestamp = [], value, anomaly_score: scores } = this.#sparklines.of(uid) ?? {};
      if (!timestamp.length) continue;
      const scored = scores.findLastIndex((score) => score !== null);
      const newest = scored < 0 ? {} : { newest: { timestamp: timestamp[scored], value: value[scored], anomaly_score: scores[scored] } };
      this.#list.update({ uid, last_timestamp: timestamp.at(-1), last_value: value.at(-1), ...newest });
    }
    this.#redraw();
  }

  #live(result) {
    const { uid, name, timestamp, value, anomaly_score: score } = result;
    if (!this.#list.has(uid)) return;
    this.#list.update({ uid, newest: result, last_timestamp: timestamp, last_value: value });
    if (score >= ANOMALOUS) announce(`${name} is anomalous`);
    this.#redraw();
  }

  async #refresh() {
    const { scroll } = this.#parts;
    // Rows change places only while nobody reads or points at them.
    const undisturbed = scroll.scrollTop === 0 && !scroll.matches(":hover, :focus-within");
    try {
      await this.#list.refresh(undisturbed);
      this.#wantVisible(...this.#rows.visible);
    } catch (error) {
      tolerate(error);
    }
  }

  async #add() {
    if (await addMetric()) this.load();
  }

  #slash(event) {
    if (event.key !== "/" || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    this.#parts.search.focus();
  }

  #clear() {
    const { search, status } = this.#parts;
    search.value = "";
    status.value = "";
    this.load();
    search.focus();
  }

  #nothing() {
    const { search, status } = this.#filter;
    if (search || status) {
      const clear = h("button", { type: "button", onclick: () => this.#clear() }, "Clear search");
      return emptyBox("No metric matches", "No metric has this name and state.", clear);
    }
    return emptyBox(
      "No metrics yet",
      "Send samples as you would to Graphite; the metric appears here with its first sample:",
      sendingCommand("web1.cpu.load"),
      "Or add one with the range of its values, so that its model starts with the first sample.",
      h("button", { type: "button", class: "primary", onclick: () => this.#add() }, "Add metric"),
    );
  }
}

function layout(query, { typed, load, add }) {
  const total = h("span", { class: "badge" }, "…");
  const search = h("input", {
    type: "search",
    id: "search",
    placeholder: "Search names, or a pattern such as *.cpu.*",
    autocomplete: "off",
    spellcheck: "false",
    value: query.get("search") ?? "",
    oninput: typed,
  });
  const states = Object.entries(STATES).map(([status, { word }]) => [status, word]);
  const status = select("status", [["", "Any state"], ...states], query.get("status"), load);
  const orders = [["anomaly", "Most anomalous first"], ["name", "By name"]];
  const sort = select("sort", orders, query.get("sort"), load);
  const rows = h("div", { class: "virtual", role: "rowgroup" });
  const scroll = h("div", { class: "table-scroll" }, tableHead(), rows);
  const table = h("div", { class: "metric-table loading", role: "table", "aria-label": "Metrics" }, scroll);
  const message = h("div");
  const page = h(
    "div",
    { class: "page page-fixed" },
    h(
      "div",
      { class: "page-head" },
      h("h1", {}, "Metrics"),
      total,
      h("span", { class: "spring" }),
      h("button", { type: "button", class: "primary", onclick: add }, "Add metric"),
    ),
    h(
      "div",
      { class: "toolbar", role: "search" },
      h("div", { class: "search" }, hiddenLabel("search", "Search metrics"), search, h("kbd", { "aria-hidden": "true" }, "/")),
      hiddenLabel("status", "State"),
      status,
      hiddenLabel("sort", "Order"),
      sort,
    ),
    table,
    message,
  );
  return { page, total, search, status, sort, scroll, rows, table, message };
}
