// SPDX-License-Identifier: MIT
// Lanes beneath the plot, on its axis of time: how rare each kind of evidence finds the rows, by this metric's own past.

import { h } from "../dom.js";
import { colour, onTheme } from "../theme.js";
import { spoken } from "./columns.js";

const LANE = 22;
//: Evidence is at most that many decades: once in ten million rows.
const MOST = 7;
//: Decades from which a bar is yellow, and red.
const LEVELS = [[4, "anomalous"], [2.5, "unusual"]];
const FAINT = "plot-band";
const WIDEST_BAR = 8;

export class Lanes {
  #canvas = h("canvas", { role: "img" });
  #box;
  #evidence = null;
  #view = null;
  #sides;
  #ends;

  /** box: an empty box.  sides: {left, right}, the room beside the plot's area in pixels. */
  constructor(box, sides) {
    this.#box = box;
    this.#sides = sides;
    box.hidden = true;
    box.append(this.#canvas);
    const resized = new ResizeObserver(() => this.#draw());
    resized.observe(box);
    this.#ends = [() => resized.disconnect(), onTheme(() => this.#draw())];
  }

  close() {
    this.#ends.forEach((end) => end());
  }

  /** Show what `/evidence` answers (docs/http-api.md); null: nothing is known. */
  setEvidence(evidence) {
    this.#evidence = evidence;
    this.#box.hidden = !evidence;
    this.#draw();
  }

  setView(view) {
    this.#view = view;
    this.#draw();
  }

  #draw() {
    if (!this.#evidence || !this.#view || !this.#box.clientWidth) return;
    const lanes = Object.entries(this.#evidence.lanes);
    const size = { width: this.#box.clientWidth, height: lanes.length * LANE };
    const context = this.#sized(size);
    const scale = scaleOf(this.#view, this.#sides.left, size.width - this.#sides.right);
    lanes.forEach(([name, decades], number) => {
      const bottom = (number + 1) * LANE - 3;
      label(context, name, bottom);
      line(context, this.#sides.left, size.width - this.#sides.right, bottom);
      bars(context, this.#evidence.timestamp, decades, scale, bottom);
    });
    this.#canvas.setAttribute("aria-label", spoken(this.#evidence, this.#view));
  }

  #sized({ width, height }) {
    const canvas = this.#canvas;
    canvas.width = Math.round(width * devicePixelRatio);
    canvas.height = Math.round(height * devicePixelRatio);
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    return context;
  }
}

const scaleOf = ({ from, until }, left, right) => ({
  left,
  right,
  at: (moment) => left + ((moment - from) / (until - from)) * (right - left),
});

function label(context, name, bottom) {
  context.fillStyle = colour("muted");
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  context.fillText(name, 0, bottom - 3);
}

function line(context, left, right, y) {
  context.fillStyle = colour("plot-grid");
  context.fillRect(left, y, right - left, 1);
}

/** A bar for each bucket in view: as high as its decades, as wide as there is room. */
function bars(context, timestamps, decades, scale, bottom) {
  const colours = new Map([...LEVELS.map(([, name]) => name), FAINT].map((name) => [name, colour(name)]));
  const width = barWidth(timestamps, scale);
  timestamps.forEach((moment, index) => {
    const x = scale.at(moment);
    const height = (Math.min(decades[index], MOST) / MOST) * (LANE - 5);
    if (height < 0.5 || x < scale.left || x > scale.right) return;
    context.fillStyle = colours.get(levelOf(decades[index]));
    context.fillRect(x - width / 2, bottom - height, width, height);
  });
}

const levelOf = (decades) => LEVELS.find(([least]) => decades >= least)?.[1] ?? FAINT;

function barWidth(timestamps, { left, right, at }) {
  const inView = timestamps.filter((moment) => at(moment) >= left && at(moment) <= right).length;
  return Math.max(1, Math.min(WIDEST_BAR, (0.8 * (right - left)) / Math.max(1, inView)));
}
