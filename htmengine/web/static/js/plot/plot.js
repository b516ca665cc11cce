// SPDX-License-Identifier: MIT
// The picture of one metric: its value with the band between least and greatest, and its score beneath, on one axis of
// time.  Knows nothing of where the columns come from.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import * as format from "../format.js";
import { ANOMALOUS, UNUSUAL, height } from "../scores.js";
import { colour, onTheme } from "../theme.js";
import { EMPTY, drawn, gapsOf } from "./columns.js";
import { backdrop } from "./backdrop.js";
import { scoreBars, valueMarks } from "./score_bars.js";

const AXIS_WIDTH = 64;
const SCORE_HEIGHT = 150;
//: Scores beyond this height are drawn so high.
const HIGHEST = 0.72;
const PADDING = [10, 20, 0, 0];
//: The room beside the plot's area, in pixels.
export const SIDES = { left: AXIS_WIDTH, right: PADDING[1] };
const DAY_S = 86400;
const YEAR_S = 300 * DAY_S;
const COLOURS = ["surface", "usual", "unusual", "unusual-soft", "anomalous", "anomalous-soft", "unscored", "muted", "plot-line", "plot-band", "plot-expected", "plot-grid"];
const NINES = { [height(0)]: "0", [height(UNUSUAL)]: "0.999", [height(ANOMALOUS)]: "0.99999" };

export class Plot {
  #element;
  #onSelect;
  #onCursor;
  #palette = palette();
  #plot = EMPTY;
  #evidence = null;
  #spans = [];
  #columns = drawn(EMPTY);
  #value = null;
  #score = null;
  #view = null;
  #ends;

  /**
   * element: an empty box.  onSelect(view): a range was dragged over; onCursor({timestamp, last, min, max, score}):
   * the cursor is there, or nowhere (null).
   */
  constructor(element, { onSelect, onCursor }) {
    this.#element = element;
    this.#onSelect = onSelect;
    this.#onCursor = onCursor;
    const resized = new ResizeObserver(() => this.#resize());
    resized.observe(element);
    this.#ends = [() => resized.disconnect(), onTheme(() => this.#rebuild())];
    this.#rebuild();
  }

  close() {
    this.#ends.forEach((end) => end());
    this.#value.destroy();
    this.#score.destroy();
  }

  /** Show columns as the engine sends them. */
  setData(plot) {
    this.#plot = plot;
    this.#draw();
  }

  /** Show the band of what was expected, as the engine sends it; null: nothing is known. */
  setEvidence(evidence) {
    this.#evidence = evidence;
    this.#draw();
  }

  /** Times without data, and those whose rows fill gaps. */
  get #gaps() {
    return [...gapsOf(this.#columns), ...this.#plot.filled];
  }

  /** Shade times: [{from, until, level}], the level one of scores.js. */
  setSpans(spans) {
    this.#spans = spans;
    this.#value.redraw(false);
  }

  #draw() {
    this.#columns = drawn(this.#plot, this.#evidence);
    this.#fill();
  }

  setView(view) {
    this.#view = view;
    for (const one of [this.#value, this.#score]) one.setScale("x", { min: view.from, max: view.until });
  }

  /** The moment under a pointer. */
  timeAt(clientX) {
    const { left } = this.#value.over.getBoundingClientRect();
    return this.#value.posToVal(clientX - left, "x");
  }

  /** Put the cursor on the next place in view, later or earlier; returns what is there. */
  stepCursor(by) {
    const [first, last] = this.#value.series[0].idxs ?? [0, 0];
    const now = this.#value.cursor.idx ?? (by > 0 ? first - 1 : last + 1);
    const within = (index) => Math.max(first, Math.min(last, index));
    const next = within(now + by);
    const index = this.#rowAt(next) ? next : within(next + by); // beyond a gap
    this.#value.setCursor({ left: this.#value.valToPos(this.#columns[0][index], "x"), top: 0 });
    return this.#rowAt(index);
  }

  #rowAt(index) {
    const [timestamp, last, min, max, score, lower, upper] = this.#columns.map((column) => column[index]);
    return last === null || last === undefined ? null : { timestamp, last, min, max, score, lower, upper };
  }

  #rebuild() {
    this.#palette = palette();
    this.#value?.destroy();
    this.#score?.destroy();
    this.#value = new uPlot(this.#valueOptions(), [[], [], [], [], [], []], this.#element);
    this.#score = new uPlot(this.#scoreOptions(), [[], []], this.#element);
    this.#fill();
  }

  #fill() {
    const [xs, last, low, high, scores, lower, upper] = this.#columns;
    this.#value.setData([xs, last, low, high, lower, upper], false);
    this.#score.setData([xs, scores.map((score) => Math.min(HIGHEST, height(score)))], false);
    if (this.#view) this.setView(this.#view);
    else for (const one of [this.#value, this.#score]) one.setScale("x", { min: xs[0] ?? 0, max: xs.at(-1) ?? 1 });
  }

  #size() {
    const { clientWidth: width, clientHeight } = this.#element;
    return { width: Math.max(200, width), height: Math.max(160, clientHeight - SCORE_HEIGHT) };
  }

  #resize() {
    this.#value.setSize(this.#size());
    this.#score.setSize({ width: this.#size().width, height: SCORE_HEIGHT });
  }

  #common() {
    const select = (plot) => {
      const { left, width } = plot.select;
      if (width < 4) return;
      const view = { from: plot.posToVal(left, "x"), until: plot.posToVal(left + width, "x") };
      plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      this.#onSelect(view);
    };
    return {
      legend: { show: false },
      padding: PADDING,
      cursor: {
        y: false,
        drag: { setScale: false, x: true, y: false },
        sync: { key: this.#element.id, setSeries: false },
        points: { size: 7 },
        bind: { dblclick: () => null }, // ours: it shows everything
      },
      hooks: { setSelect: [select], setCursor: [(plot) => plot === this.#value && this.#onCursor(this.#rowAt(plot.cursor.idx))] },
    };
  }

  #axes(yAxis) {
    const { muted, "plot-grid": grid } = this.#palette;
    const common = { stroke: muted, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, font: `11px ${fonts()}` };
    return [{ ...common, size: 42, space: 70, values: timeLabels }, { ...common, size: AXIS_WIDTH, ...yAxis }];
  }

  #valueOptions() {
    const { "plot-line": line, "plot-band": band, "plot-expected": expected } = this.#palette;
    const common = this.#common();
    const axes = this.#axes({ values: (_, splits) => splits.map(format.value) });
    axes[0] = { ...axes[0], size: 8, values: () => [] };
    return {
      ...common,
      ...this.#size(),
      scales: { x: { time: true } },
      axes,
      series: [
        {},
        { stroke: line, width: 1.25, points: { show: false } },
        { width: 0, points: { show: false } }, // least and greatest: the band between them is drawn
        { width: 0, points: { show: false } },
        { width: 0, points: { show: false } }, // what was expected: the other band
        { width: 0, points: { show: false } },
      ],
      bands: [{ series: [5, 4], fill: expected }, { series: [3, 2], fill: band }],
      hooks: {
        ...common.hooks,
        drawAxes: [backdrop(() => ({ gaps: this.#gaps, spans: this.#spans }), () => this.#palette)],
        draw: [valueMarks(() => this.#columns[4], () => this.#palette)],
      },
    };
  }

  #scoreOptions() {
    const common = this.#common();
    const splits = Object.keys(NINES).map(Number);
    return {
      ...common,
      width: this.#size().width,
      height: SCORE_HEIGHT,
      scales: { x: { time: true }, y: { range: [0, HIGHEST + 0.08] } },
      axes: this.#axes({ splits: () => splits, values: (_, shown) => shown.map((split) => NINES[split]) }),
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { ...common.hooks, draw: [scoreBars(() => this.#columns[4], () => this.#palette)] },
    };
  }
}

/** 14:30, with 02-08 beneath the first of each day; days alone when they are further apart. */
function timeLabels(_plot, splits, _axis, _space, distance) {
  let before = "";
  return splits.map((split) => {
    const [day, clock] = format.time(split).split(" ");
    const short = distance >= YEAR_S ? day.slice(0, 7) : day.slice(5);
    const text = distance >= DAY_S ? short : day === before ? clock : `${clock}\n${short}`;
    before = day;
    return text;
  });
}

const palette = () => Object.fromEntries(COLOURS.map((name) => [name, colour(name)]));

const fonts = () => getComputedStyle(document.body).fontFamily;
