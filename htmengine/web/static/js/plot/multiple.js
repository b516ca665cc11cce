// SPDX-License-Identifier: MIT
// One of several small plots on the same axis of time: the value, what was expected, and when it was anomalous.

import { colour } from "../theme.js";
import { drawn } from "./columns.js";

const PADDING = 4;

/**
 * Draw on a canvas of a fixed CSS size (data-width, data-height).  plot, evidence: as /plot and /evidence answer (null:
 * not known); range: {from, until} of the axis; span: {from, until} of the anomaly, or null.
 */
export function drawMultiple(canvas, plot, evidence, range, span) {
  const ratio = Math.min(2, devicePixelRatio);
  const [width, height] = [canvas.dataset.width * ratio, canvas.dataset.height * ratio];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const x = (moment) => ((moment - range.from) / (range.until - range.from)) * width;
  if (span) shade(context, x(span.from), Math.max(x(span.until), x(span.from) + 2 * ratio), height);
  const [xs, last, , , , lower, upper] = drawn(plot, evidence);
  const y = heights([last, lower, upper], height, PADDING * ratio);
  band(context, xs.map(x), lower.map(y), upper.map(y));
  line(context, xs.map(x), last.map(y), ratio);
}

function shade(context, left, right, height) {
  context.fillStyle = colour("anomalous-soft");
  context.fillRect(left, 0, right - left, height);
}

/** From values to places on the canvas; null stays null. */
function heights(columns, height, padding) {
  const known = columns.flat().filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const perValue = high > low ? (height - 2 * padding) / (high - low) : 0;
  return (value) => (value === null ? null : perValue ? height - padding - (value - low) * perValue : height / 2);
}

/** Filled between neighbours that are both known. */
function band(context, xs, lower, upper) {
  context.fillStyle = colour("plot-expected");
  for (let index = 1; index < xs.length; index++) {
    if (lower[index] === null || lower[index - 1] === null) continue;
    context.beginPath();
    context.moveTo(xs[index - 1], lower[index - 1]);
    context.lineTo(xs[index], lower[index]);
    context.lineTo(xs[index], upper[index]);
    context.lineTo(xs[index - 1], upper[index - 1]);
    context.fill();
  }
}

function line(context, xs, ys, ratio) {
  context.beginPath();
  ys.forEach((y, index) => {
    if (y === null) return;
    if (index === 0 || ys[index - 1] === null) context.moveTo(xs[index], y);
    else context.lineTo(xs[index], y);
  });
  context.strokeStyle = colour("plot-line");
  context.lineWidth = 1.25 * ratio;
  context.lineJoin = "round";
  context.stroke();
}
