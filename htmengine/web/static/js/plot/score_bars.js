// SPDX-License-Identifier: MIT
// uPlot hooks: scores as bars in the colour of their level, and marks on the value's line where something happened.

import { drawMark } from "../marks.js";
import { ANOMALOUS, UNUSUAL, height, levelOf } from "../scores.js";

//: Radius of each level's mark, the graver one last.
const MARKS = { unusual: 4, anomalous: 5.5 };
const WIDEST_BAR = 8;

/** Draws series 1 (heights) as bars, with the scores that `scores()` returns, and lines at the two thresholds. */
export function scoreBars(scores, palette) {
  return (plot) => {
    const { ctx, bbox } = plot;
    const [first, last] = plot.series[0].idxs;
    const xs = plot.data[0];
    const bottom = bbox.top + bbox.height;
    const colours = palette();
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const [threshold, level] of [[UNUSUAL, "unusual"], [ANOMALOUS, "anomalous"]]) {
      const y = Math.round(plot.valToPos(height(threshold), "y", true)) + 0.5;
      ctx.setLineDash(level === "unusual" ? [2, 4] : [6, 4]);
      ctx.strokeStyle = colours[level];
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    const width = barWidth(plot, first, last);
    for (let index = first; index <= last; index++) {
      const score = scores()[index];
      if (score === null || score === undefined) continue;
      const x = plot.valToPos(xs[index], "x", true);
      const y = Math.min(bottom - 2, plot.valToPos(plot.data[1][index], "y", true));
      ctx.fillStyle = colours[levelOf(score)];
      ctx.fillRect(x - width / 2, y, width, bottom - y);
    }
    ctx.restore();
    marks(plot, first, last, scores(), colours);
  };
}

/** Marks on the line of series 1. */
export function valueMarks(scores, palette) {
  return (plot) => {
    const [first, last] = plot.series[0].idxs;
    marks(plot, first, last, scores(), palette());
  };
}

/** Marks of one level that would cover each other are drawn once; the graver level is drawn last. */
function marks(plot, first, last, scores, colours) {
  for (const [level, size] of Object.entries(MARKS)) {
    const radius = size * devicePixelRatio;
    let before = { x: -Infinity, y: -Infinity };
    for (let index = first; index <= last; index++) {
      if (levelOf(scores[index]) !== level) continue;
      const at = { x: plot.valToPos(plot.data[0][index], "x", true), y: plot.valToPos(plot.data[1][index], "y", true) };
      if (Math.hypot(at.x - before.x, at.y - before.y) < radius) continue;
      drawMark(plot.ctx, level, at.x, at.y, radius, colours[level], colours.surface);
      before = at;
    }
  }
}

function barWidth(plot, first, last) {
  const shown = Math.max(1, last - first);
  return Math.max(1, Math.min(WIDEST_BAR * devicePixelRatio, (0.8 * plot.bbox.width) / shown));
}
