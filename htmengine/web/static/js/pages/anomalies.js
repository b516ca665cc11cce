// SPDX-License-Identifier: MIT
// The anomalies of all metrics: in time, and as a table, newest first.

import { metricLink, remember } from "../address.js";
import { get, isAbort, tolerate } from "../api.js";
import { connection } from "../connection.js";
import { fill, h, hiddenLabel, select } from "../dom.js";
import { emptyBox, errorBox } from "../empty.js";
import * as format from "../format.js";
import { subscribe } from "../live.js";
import { ANOMALOUS, UNUSUAL, scoreMark } from "../scores.js";
import { debounced, spaced } from "../tasks.js";
import { announce, toast } from "../toasts.js";
import { timeline } from "../timeline.js";

const PAGE = 200;
const TYPING_MS = 250;
const LIVE_MS = 1000;
//: The timeline spans at least that much.
const SHORTEST_S = 3600;
const AROUND_S = 43200;
const MOST_LIVE = 1000;
const SPANS = [["", "All time"], ["3600", "Last hour"], ["86400", "Last day"], ["604800", "Last week"], ["2592000", "Last 30 days"]];

export function openAnomalies(main, { query }) {
  document.title = "Anomalies · HTM Engine";
  const page = new AnomaliesPage(main, query);
  page.load();
  return () => page.close();
}

class AnomaliesPage {
  #parts;
  #anomalies = [];
  #next = null;
  #loading = new AbortController();
  #unsubscribe = () => {};
  #ends;
  #showSoon = spaced(() => this.#show(), LIVE_MS);

  constructor(main, query) {
    const load = () => this.load();
    const typed = debounced(load, TYPING_MS);
    this.#parts = layout(query, { load, typed, more: () => this.#more() });
    main.append(this.#parts.page);
    const resized = new ResizeObserver(() => this.#drawTimeline());
    resized.observe(this.#parts.timeline);
    connection.addEventListener("back", load);
    this.#ends = [
      typed.cancel,
      this.#showSoon.cancel,
      () => resized.disconnect(),
      () => connection.removeEventListener("back", load),
      () => this.#unsubscribe(),
      () => this.#loading.abort(),
    ];
  }

  close() {
    this.#ends.forEach((end) => end());
  }

  async load() {
    const { search, threshold, span } = this.#filter;
    remember({ search, threshold: threshold === String(UNUSUAL) ? "" : threshold, span });
    this.#unsubscribe();
    this.#loading.abort();
    this.#loading = new AbortController();
    try {
      const { anomalies, next } = await this.#get(null);
      this.#anomalies = anomalies;
      this.#next = next;
      this.#show();
      announce(`${anomalies.length}${next ? " or more" : ""} anomalies`);
      this.#unsubscribe = subscribe({ threshold }, (result) => this.#live(result), () => this.load());
    } catch (error) {
      if (isAbort(error)) return;
      this.#parts.content.hidden = true;
      fill(this.#parts.message, errorBox(error, () => this.load()));
      tolerate(error);
    }
  }

  async #more() {
    try {
      const { anomalies, next } = await this.#get(this.#next);
      this.#anomalies.push(...anomalies);
      this.#next = next;
      this.#show();
    } catch (error) {
      tolerate(error);
      if (!isAbort(error)) toast(error.message, "error");
    }
  }

  #get(after) {
    const { search, threshold, span } = this.#filter;
    const from = span ? Math.floor(Date.now() / 1000) - Number(span) : null;
    return get("anomalies", { search, threshold, from, limit: PAGE, after }, this.#loading.signal);
  }

  get #filter() {
    const { search, threshold, span } = this.#parts;
    return { search: search.value.trim(), threshold: threshold.value, span: span.value };
  }

  /** A search is the engine's to decide: with one, ask; without, the new one stands at the top. */
  #live(result) {
    if (this.#filter.search && !result.name.toLowerCase().includes(this.#filter.search.toLowerCase())) return;
    const others = this.#anomalies.filter(({ uid, rowid }) => uid !== result.uid || rowid !== result.rowid);
    this.#anomalies = [result, ...others].slice(0, Math.max(MOST_LIVE, this.#anomalies.length));
    this.#showSoon();
  }

  #show() {
    const { content, message, body, more, total } = this.#parts;
    const some = this.#anomalies.length > 0;
    content.hidden = !some;
    total.textContent = `${format.count(this.#anomalies.length)}${this.#next ? "+" : ""}`;
    fill(message, some ? null : this.#nothing());
    this.#anomalies.sort((one, other) => other.timestamp - one.timestamp);
    body.replaceChildren(...this.#anomalies.map(tableRow));
    more.hidden = this.#next === null;
    this.#drawTimeline();
  }

  #drawTimeline() {
    const { timeline: box } = this.#parts;
    if (!this.#anomalies.length || !box.clientWidth) return;
    const names = parseFloat(getComputedStyle(box).getPropertyValue("--lane-names"));
    const [first, last] = [this.#anomalies.at(-1).timestamp, this.#anomalies[0].timestamp];
    const room = Math.max(0, SHORTEST_S - (last - first)) / 2;
    const range = { from: first - room, until: last + room };
    fill(box, timeline(this.#anomalies, range, Math.max(160, box.clientWidth - names)));
  }

  #nothing() {
    const { search, threshold, span } = this.#filter;
    if (!search && !span && threshold === String(UNUSUAL)) {
      return emptyBox(
        "Nothing unusual so far",
        "A model learns what is usual first: scores start with a metric's 101st sample and mean something after a few hundred.",
        h("a", { href: "#/metrics" }, "All metrics"),
      );
    }
    return emptyBox("No anomaly matches", "Try a longer time, a lower threshold or another name.");
  }
}

function tableRow({ uid, name, timestamp, value, anomaly_score: score }) {
  const view = { from: timestamp - AROUND_S, until: timestamp + AROUND_S };
  return h(
    "tr",
    {},
    h("td", {}, format.time(timestamp)),
    h("td", { class: "name" }, h("a", { class: "mono", href: metricLink(uid, view) }, name)),
    h("td", { class: "number" }, format.value(value)),
    h("td", { class: "number" }, scoreMark(score)),
  );
}

function layout(query, { load, typed, more: onMore }) {
  const total = h("span", { class: "badge" }, "…");
  const search = h("input", {
    type: "search",
    id: "search",
    placeholder: "Search names",
    autocomplete: "off",
    spellcheck: "false",
    value: query.get("search") ?? "",
    oninput: typed,
  });
  const thresholds = [
    [String(UNUSUAL), "▲ Unusual and ◆ anomalous"],
    [String(ANOMALOUS), "◆ Anomalous only"],
  ];
  const threshold = select("threshold", thresholds, query.get("threshold"), load);
  const span = select("span", SPANS, query.get("span"), load);
  const box = h("div", { class: "timeline-box" });
  const body = h("tbody");
  const more = h("button", { type: "button", onclick: onMore, hidden: true }, "Load older ones");
  const heads = ["Anomaly time", "Metric", "Value", "Anomaly score"].map((text, index) =>
    h("th", { scope: "col", class: index > 1 ? "number" : "" }, text),
  );
  const content = h(
    "div",
    { class: "stack", hidden: true },
    h("section", { class: "panel", "aria-label": "In time" }, box),
    h(
      "section",
      { class: "panel", "aria-label": "Newest first" },
      h("table", {}, h("caption", {}, `Newest first, times in ${format.timeZone}`), h("thead", {}, h("tr", {}, ...heads)), body),
      h("p", { class: "more" }, more),
    ),
  );
  const message = h("div");
  const page = h(
    "div",
    { class: "page" },
    h("div", { class: "page-head" }, h("h1", {}, "Anomalies"), total),
    h(
      "div",
      { class: "toolbar", role: "search" },
      h("div", { class: "search" }, hiddenLabel("search", "Search metrics"), search),
      hiddenLabel("threshold", "Threshold"),
      threshold,
      hiddenLabel("span", "Time"),
      span,
    ),
    message,
    content,
  );
  return { page, total, search, threshold, span, timeline: box, body, more, content, message };
}
