// SPDX-License-Identifier: MIT
// A uPlot hook for what stands behind the lines: times without data or with rows that fill a gap are hatched, incidents are shaded.

const SPACING = 7;

/** Draws what `behind()` returns: gaps [[from, until]] and spans [{from, until, level}]. */
export function backdrop(behind, palette) {
  return (plot) => {
    const { gaps, spans } = behind();
    for (const { from, until, level } of spans) {
      within(plot, [from, until], (ctx, { top, height }, left, right) => {
        ctx.fillStyle = palette()[`${level}-soft`];
        ctx.fillRect(left, top, Math.max(right - left, 2 * devicePixelRatio), height);
      });
    }
    for (const gap of gaps) {
      within(plot, gap, (ctx, bbox, left, right) => {
        ctx.strokeStyle = palette()["plot-grid"];
        ctx.lineWidth = devicePixelRatio;
        hatch(ctx, bbox, left, right);
      });
    }
  };
}

/** Call `draw(context, area, left, right)` for the part of a range that is seen. */
function within({ ctx, bbox, valToPos }, range, draw) {
  const [left, right] = range.map((moment) => valToPos(moment, "x", true));
  const end = bbox.left + bbox.width;
  if (right < bbox.left || left > end) return;
  ctx.save();
  draw(ctx, bbox, Math.max(left, bbox.left), Math.min(right, end));
  ctx.restore();
}

function hatch(ctx, { top, height }, left, right) {
  ctx.beginPath();
  ctx.rect(left, top, right - left, height);
  ctx.clip();
  ctx.beginPath();
  for (let x = left - height; x < right; x += SPACING * devicePixelRatio) {
    ctx.moveTo(x, top + height);
    ctx.lineTo(x + height, top);
  }
  ctx.stroke();
}
