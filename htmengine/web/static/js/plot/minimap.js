// SPDX-License-Identifier: MIT
// The whole series in small, with a window that shows and moves what is seen.

import { h } from "../dom.js";
import { drawSparkline } from "../sparkline.js";
import { onTheme } from "../theme.js";
import { span } from "./viewport.js";

export class Minimap {
  #canvas = h("canvas", { "aria-hidden": "true" });
  #frame = h("div", { class: "minimap-frame" });
  #plot = null;
  #whole = null;
  #ends;

  /** element: an empty box; onMove(from): the window's start was dragged there. */
  constructor(element, onMove) {
    element.append(this.#canvas, this.#frame);
    const resized = new ResizeObserver(() => this.#draw());
    resized.observe(element);
    this.#ends = [() => resized.disconnect(), onTheme(() => this.#draw())];
    this.#drag(element, onMove);
  }

  close() {
    this.#ends.forEach((end) => end());
  }

  /** Show a coarse series (docs/http-api.md, /plot) and the range that it spans. */
  show(plot, whole) {
    this.#plot = plot;
    this.#whole = whole;
    this.#draw();
  }

  setView(view) {
    if (!this.#whole) return;
    const length = Math.max(1, span(this.#whole));
    const left = Math.max(0, (view.from - this.#whole.from) / length);
    const right = Math.max(0, (this.#whole.until - view.until) / length);
    Object.assign(this.#frame.style, { left: `${100 * left}%`, right: `${100 * right}%` });
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas.parentElement;
    Object.assign(this.#canvas.dataset, { width, height });
    drawSparkline(this.#canvas, this.#plot && { ...this.#plot, value: this.#plot.last });
  }

  #drag(element, onMove) {
    let grip = null;
    const timeAt = (clientX) => {
      const { left, width } = element.getBoundingClientRect();
      return this.#whole.from + ((clientX - left) / width) * span(this.#whole);
    };
    element.addEventListener("pointerdown", (event) => {
      if (!this.#whole || event.button !== 0) return;
      const box = this.#frame.getBoundingClientRect();
      const inside = event.clientX >= box.left && event.clientX <= box.right;
      grip = inside ? timeAt(event.clientX) - timeAt(box.left) : (timeAt(box.right) - timeAt(box.left)) / 2;
      element.setPointerCapture(event.pointerId);
      onMove(timeAt(event.clientX) - grip);
    });
    element.addEventListener("pointermove", (event) => grip !== null && onMove(timeAt(event.clientX) - grip));
    for (const type of ["pointerup", "pointercancel"]) {
      element.addEventListener(type, () => {
        grip = null;
      });
    }
  }
}
