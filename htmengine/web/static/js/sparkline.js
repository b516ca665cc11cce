// SPDX-License-Identifier: MIT
// A metric's newest rows as a small line on a canvas, with its unusual and anomalous rows marked.

import { drawMark } from "./marks.js";
import { levelOf } from "./scores.js";
import { colour, onTheme } from "./theme.js";

const PADDING = 5;
const MARK = 4;

let palette = null;
onTheme(() => {
  palette = null;
});

/** Draw {timestamp: [...], value: [...], anomaly_score: [...]} over a canvas of a fixed CSS size; null empties it. */
export function drawSparkline(canvas, rows) {
  palette ??= {
    line: colour("plot-line"),
    surface: colour("surface"),
    unusual: colour("unusual"),
    anomalous: colour("anomalous"),
  };
  const ratio = Math.min(2, devicePixelRatio);
  const width = canvas.dataset.width * ratio;
  const height = canvas.dataset.height * ratio;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (!rows?.value.length) return;
  const at = scale(rows, width, height, PADDING * ratio);
  context.beginPath();
  rows.value.forEach((_, index) => context.lineTo(...at(index)));
  context.strokeStyle = palette.line;
  context.lineWidth = 1.25 * ratio;
  context.lineJoin = "round";
  context.stroke();
  rows.anomaly_score.forEach((score, index) => {
    const level = levelOf(score);
    if (!(level in palette)) return;
    drawMark(context, level, ...at(index), MARK * ratio, palette[level], palette.surface);
  });
}

function scale({ timestamp, value }, width, height, padding) {
  const low = Math.min(...value);
  const high = Math.max(...value);
  const length = timestamp.at(-1) - timestamp[0];
  const perValue = high > low ? (height - 2 * padding) / (high - low) : 0;
  const perSecond = length ? (width - 2 * padding) / length : 0;
  const bottom = perValue ? height - padding : height / 2;
  return (index) => [padding + (timestamp[index] - timestamp[0]) * perSecond, bottom - (value[index] - low) * perValue];
}
