// SPDX-License-Identifier: MIT
// A uPlot hook: hatches the times without data.

const SPACING = 7;

/** Hatches the ranges [from, until] that `gaps()` returns. */
export function gapHatch(gaps, palette) {
  return (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = palette()["plot-grid"];
    ctx.lineWidth = devicePixelRatio;
    for (const range of gaps()) {
      const [left, right] = range.map((moment) => plot.valToPos(moment, "x", true));
      if (right > bbox.left && left < bbox.left + bbox.width) hatch(ctx, bbox, Math.max(left, bbox.left), Math.min(right, bbox.left + bbox.width));
    }
    ctx.restore();
  };
}

function hatch(ctx, { top, height }, left, right) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, right - left, height);
  ctx.clip();
  ctx.beginPath();
  for (let x = left - height; x < right; x += SPACING * devicePixelRatio) {
    ctx.moveTo(x, top + height);
    ctx.lineTo(x + height, top);
  }
  ctx.stroke();
  ctx.restore();
}
