// SPDX-License-Identifier: MIT
// The shapes of unusual and anomalous rows on canvases: a triangle and a diamond, told apart without colour.

/** Draw a mark centred at (x, y); `radius` in the canvas's pixels. */
export function drawMark(context, level, x, y, radius, fill, edge) {
  context.beginPath();
  context.moveTo(x, y - radius);
  if (level === "anomalous") {
    context.lineTo(x + radius, y);
    context.lineTo(x, y + radius);
    context.lineTo(x - radius, y);
  } else {
    context.lineTo(x + radius, y + 0.8 * radius);
    context.lineTo(x - radius, y + 0.8 * radius);
  }
  context.closePath();
  context.fillStyle = fill;
  context.fill();
  context.strokeStyle = edge;
  context.lineWidth = Math.max(1, radius / 4);
  context.stroke();
}
