// SPDX-License-Identifier: MIT
// The plot with all that moves it: buttons, keys, minimap, live results.  Fetches what the view needs.

import { isAbort, tolerate } from "../api.js";
import { h, setText } from "../dom.js";
import * as format from "../format.js";
import { LEVELS, levelOf } from "../scores.js";
import { onceAFrame, spaced } from "../tasks.js";
import { EMPTY, appended } from "./columns.js";
import { gestures } from "./gestures.js";
import { Lanes } from "./lanes.js";
import { Minimap } from "./minimap.js";
import { Plot, SIDES } from "./plot.js";
import { PlotSource } from "./source.js";
import { plotTable } from "./table.js";
import { atEnd, moved, newest, span, within, zoomed } from "./viewport.js";

const FETCH_PAUSE_MS = 120;
//: The evidence of live results comes so much later: it is found by replay.
const EVIDENCE_PAUSE_MS = 30000;
const MINIMAP_POINTS = 600;
//: Samples that are seen at first.
const FIRST_ROWS = 2000;
//: Longer ranges are told to the minute.
const MINUTES_FROM_S = 3600;
const PRESETS = [["1 h", 3600], ["6 h", 21600], ["1 d", 86400], ["1 w", 604800], ["30 d", 2592000], ["All", Infinity]];

export class PlotPanel {
  #source;
  #plot;
  #lanes;
  #minimap;
  #table = plotTable();
  #parts;
  #onView;
  #columns = EMPTY;
  #coarse = null;
  #request = null;
  #aloud = null; // the moment whose numbers were read aloud last
  #pending = null;
  #whole = null;
  #view = null;
  #results = [];
  #fetchSoon = spaced(() => this.#fetch(), FETCH_PAUSE_MS);
  #judgeSoon = spaced(() => this.#judge(), EVIDENCE_PAUSE_MS);
  #takeResults = onceAFrame(() => this.#append());
  #ends;

  /** onView({from, until}, following): something else is seen. */
  constructor(metric, onView) {
    this.#source = new PlotSource(metric.uid);
    this.#onView = onView;
    this.#parts = layout(metric.name, this, this.#table.element);
  }

  get element() {
    return this.#parts.element;
  }

  /** Whether the newest sample is seen, so that the view goes with new ones. */
  get following() {
    return atEnd(this.#view, this.#whole);
  }

  /** The time of the newest sample that it knows of. */
  get newest() {
    return this.#whole.until;
  }

  /** Load and show `view`, or the newest samples.  False: there are none.  Raises what get() raises. */
  async open(view) {
    this.#coarse = await this.#source.whole(MINIMAP_POINTS);
    const { first_timestamp: from, last_timestamp: until, rows } = this.#coarse;
    if (from === null) return false;
    this.#whole = { from, until };
    this.#view = within(view ?? newest(this.#whole, ((until - from) / rows) * FIRST_ROWS), this.#whole);
    this.#build();
    this.#minimap.show(this.#coarse, this.#whole);
    this.show(this.#view);
    return true;
  }

  close() {
    this.#ends?.forEach((end) => end());
  }

  /** See something else. */
  show(view) {
    this.#view = within(view, this.#whole);
    this.#plot.setView(this.#view);
    this.#lanes.setView(this.#view);
    this.#minimap.setView(this.#view);
    this.#showRange();
    this.#table.update(this.#columns, this.#view);
    this.#onView(this.#view, this.following);
    if (!this.#request || !PlotSource.serves(this.#request, this.#view)) this.#fetchSoon();
  }

  showAll = () => this.show(this.#whole);

  showNewest = (length = span(this.#view)) => this.show(newest(this.#whole, Math.min(length, span(this.#whole))));

  zoom = (factor) => this.show(zoomed(this.#view, factor));

  move = (part) => this.show(moved(this.#view, part));

  /** Shade times: see `Plot.setSpans`. */
  setSpans(spans) {
    this.#plot?.setSpans(spans);
  }

  /** A result that was just scored. */
  add(result) {
    this.#results.push(result);
    if (this.#plot) this.#takeResults();
  }

  /** Rows or scores have changed in a way that no result tells. */
  async reload() {
    this.#source.forget();
    this.#coarse = await this.#source.whole(MINIMAP_POINTS);
    this.#extend(this.#coarse.last_timestamp);
    this.#minimap.show(this.#coarse, this.#whole);
    await this.#fetch();
  }

  #build() {
    const { box, lanes, minimap, host, tools } = this.#parts;
    tools.disabled = false;
    this.#plot = new Plot(box, { onSelect: (view) => this.show(view), onCursor: (row) => this.#read(row) });
    this.#lanes = new Lanes(lanes, SIDES);
    this.#minimap = new Minimap(minimap, (from) => this.show({ from, until: from + span(this.#view) }));
    const stopGestures = gestures(host, box, {
      view: () => this.#view,
      show: (view) => this.show(view),
      timeAt: (clientX) => this.#plot.timeAt(clientX),
      stepCursor: (by) => this.#read(this.#plot.stepCursor(by), true),
      showAll: this.showAll,
      showNewest: () => this.showNewest(),
    });
    this.#ends = [
      stopGestures,
      this.#fetchSoon.cancel,
      this.#judgeSoon.cancel,
      this.#takeResults.cancel,
      () => this.#plot.close(),
      () => this.#lanes.close(),
      () => this.#minimap.close(),
      () => this.#source.close(),
    ];
  }

  async #fetch() {
    const request = PlotSource.request(this.#view);
    if (this.#pending && PlotSource.serves(this.#pending, this.#view)) return;
    this.#pending = request;
    this.#parts.element.classList.add("fetching");
    try {
      this.#setColumns(await this.#source.load(request));
      this.#request = request;
      this.#parts.element.classList.remove("fetching");
      this.#judge();
      if (!PlotSource.serves(request, this.#view)) this.#fetchSoon();
    } catch (error) {
      tolerate(error);
      if (!isAbort(error)) this.#request = null; // the next move asks again
    } finally {
      if (this.#pending === request) this.#pending = null;
    }
  }

  /** Show what was expected, and which evidence spoke. */
  async #judge() {
    const request = this.#request;
    if (!request) return;
    try {
      const evidence = await this.#source.evidence(request);
      if (request === this.#request) this.#showEvidence(evidence);
    } catch (error) {
      tolerate(error);
      if (error.status === 404) this.#showEvidence(null); // there is no model
    }
  }

  #showEvidence(evidence) {
    this.#plot.setEvidence(evidence);
    this.#lanes.setEvidence(evidence);
  }

  #append() {
    const follows = this.following;
    const length = span(this.#view);
    const results = this.#results.splice(0);
    // While one looks at older samples, what is far from them is left to the next fetch.
    const near = results.filter(({ timestamp }) => follows || timestamp <= (this.#request?.until ?? 0));
    if (near.length) this.#setColumns(near.reduce(appended, this.#columns));
    this.#judgeSoon();
    this.#extend(results.at(-1).timestamp);
    if (follows) this.showNewest(length);
    else this.#minimap.setView(this.#view);
  }

  #extend(until) {
    this.#whole = { from: this.#whole.from, until: Math.max(this.#whole.until, until ?? 0) };
  }

  #setColumns(columns) {
    this.#columns = columns;
    this.#plot.setData(columns);
    this.#table.update(columns, this.#view);
    this.#showRange();
  }

  #showRange() {
    const { step } = this.#columns;
    const detail = step ? `one point for ${format.duration(step)}` : "every sample";
    const { from, until } = this.#view;
    const grain = span(this.#view) < MINUTES_FROM_S ? 1 : 60;
    const [first, last] = [from, until].map((moment) => format.time(Math.round(moment / grain) * grain));
    setText(this.#parts.range, `${first} – ${last} · ${detail}`);
    this.#parts.element.dataset.from = Math.round(from);
    this.#parts.element.dataset.until = Math.round(until);
  }

  /** Show the numbers of one place; `aloud` for screen readers, too, also when that place is drawn again. */
  #read(row, aloud = row?.timestamp === this.#aloud) {
    this.#aloud = aloud && row ? row.timestamp : null;
    this.#parts.readout.setAttribute("aria-live", aloud ? "polite" : "off");
    setText(this.#parts.readout, row ? reading(row) : HINT);
  }
}

function reading({ timestamp, last, min, max, score, lower, upper }) {
  const band = min === max ? "" : ` (${format.value(min)} to ${format.value(max)})`;
  const expected = lower === null ? "" : `expected ${format.value(lower)} to ${format.value(upper)} · `;
  const { shape, word } = LEVELS[levelOf(score)];
  const scored = score === null ? "" : `score ${format.score(score)} `;
  return `${format.time(timestamp)} · ${format.value(last)}${band} · ${expected}${scored}${shape} ${word}`;
}

const HINT = matchMedia("(pointer: coarse)").matches
  ? "Tap the plot to read it; move it with one finger, zoom with two"
  : "Point at the plot to read it, or focus it and press Shift with ← and →";

const KEYS = [
  ["Drag", "zoom in"],
  ["Shift-drag", "move"],
  ["Wheel", "zoom, after a click"],
  ["← →", "move"],
  ["+ −", "zoom"],
  ["0", "everything"],
  ["End", "newest"],
];

function layout(name, panel, table) {
  const button = (label, text, onclick) => h("button", { type: "button", "aria-label": label, title: label, onclick }, text);
  const presets = PRESETS.map(([text, length]) =>
    button(length === Infinity ? "Show everything" : `Show the newest ${text}`, text, () => panel.showNewest(length)),
  );
  const range = h("span", { class: "range muted small" }, "Loading…");
  const readout = h("p", { class: "readout mono" }, HINT);
  const box = h("div", { class: "plot-box", id: "plot" });
  const lanes = h("div", { class: "lanes-box" });
  const minimap = h("div", { class: "minimap" });
  const host = h(
    "div",
    { class: "plot-host", tabindex: "0", role: "group", "aria-label": `Plot of ${name}`, "aria-describedby": "plot-keys" },
    box,
  );
  const keys = h(
    "p",
    { class: "keys muted", id: "plot-keys" },
    ...KEYS.flatMap(([keyName, does]) => [h("kbd", {}, keyName), ` ${does}  `]),
  );
  const legend = h(
    "p",
    { class: "legend" },
    ...Object.entries(LEVELS)
      .filter(([level]) => level !== "unscored")
      .map(([level, { word, shape }]) =>
        h("span", { class: `score ${level}` }, h("span", { class: "shape" }, shape), word, BOUNDS[level]),
      ),
    h("span", {}, h("span", { class: "swatch expected", "aria-hidden": "true" }), "expected"),
    h("span", {}, h("span", { class: "swatch gap", "aria-hidden": "true" }), "no data"),
  );
  const tools = h(
    "fieldset",
    { class: "plot-tools", disabled: true, "aria-label": "What is seen" },
    h("div", { class: "button-row" }, ...presets),
    h(
      "div",
      { class: "button-row" },
      button("Earlier", "◀", () => panel.move(-0.5)),
      button("Later", "▶", () => panel.move(0.5)),
      button("Zoom out", "−", () => panel.zoom(2)),
      button("Zoom in", "+", () => panel.zoom(0.5)),
    ),
    range,
  );
  const element = h(
    "section",
    { class: "panel plot-panel", "aria-label": "Value and anomaly score" },
    tools,
    readout,
    host,
    lanes,
    minimap,
    h("div", { class: "plot-foot" }, legend, keys),
    table,
  );
  return { element, tools, range, readout, box, lanes, minimap, host };
}

const BOUNDS = { usual: "", unusual: " from 0.999", anomalous: " from 0.99999" };
