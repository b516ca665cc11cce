// SPDX-License-Identifier: MIT
// A list of any length of which only the visible rows exist.  Rows are reused: a row that leaves at one end is filled
// again at the other.

import { onceAFrame } from "./tasks.js";

//: Rows kept beyond each edge, so that a quick scroll shows no gap.
const OVERSCAN = 6;

export class VirtualList {
  #viewport;
  #canvas;
  #makeRow;
  #fillRow;
  #onVisible;
  #rows = new Map();
  #free = [];
  #rowHeight = 1;
  #length = 0;
  #active = 0;
  #draw = onceAFrame(() => this.#place());
  #resized;

  /**
   * viewport: the element that scrolls; canvas: its child, which gets the height of all rows.
   * makeRow(): an empty row element, with the control that takes the focus as its property `control`.
   * fillRow(element, index): show one; onVisible(first, end): called when other rows are visible.
   */
  constructor(viewport, canvas, { makeRow, fillRow, onVisible }) {
    this.#viewport = viewport;
    this.#canvas = canvas;
    this.#makeRow = makeRow;
    this.#fillRow = fillRow;
    this.#onVisible = onVisible;
    viewport.addEventListener("scroll", this.#draw, { passive: true });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focusin", (event) => this.#focused(event.target));
    this.#resized = new ResizeObserver(() => this.#measure());
    this.#resized.observe(viewport);
    this.#measure();
  }

  close() {
    this.#draw.cancel();
    this.#resized.disconnect();
  }

  /** The visible rows, from the first to before the end. */
  get visible() {
    const first = Math.floor(this.#viewport.scrollTop / this.#rowHeight);
    const shown = Math.ceil(this.#viewport.clientHeight / this.#rowHeight) + 1;
    return [Math.min(first, this.#length), Math.min(first + shown, this.#length)];
  }

  /** Show that many rows, all filled again. */
  show(length) {
    this.#length = length;
    this.#active = Math.min(this.#active, Math.max(0, length - 1));
    this.#canvas.style.height = `${length * this.#rowHeight}px`;
    this.refill();
  }

  /** Fill the existing rows again. */
  refill() {
    for (const [index, row] of this.#rows) if (index < this.#length) this.#fill(row, index);
    this.#draw();
  }

  toTop() {
    this.#active = 0;
    this.#viewport.scrollTop = 0;
    this.#draw();
  }

  #measure() {
    const height = parseFloat(getComputedStyle(this.#canvas).getPropertyValue("--row-height"));
    if (height !== this.#rowHeight) {
      this.#rowHeight = height;
      this.#canvas.style.height = `${this.#length * height}px`;
      for (const [index, row] of this.#rows) this.#move(row, index);
    }
    this.#draw();
  }

  #place() {
    const [first, end] = this.visible;
    const from = Math.max(0, first - OVERSCAN);
    const to = Math.min(this.#length, end + OVERSCAN);
    for (const [index, row] of this.#rows) if (index < from || index >= to) this.#release(index, row);
    for (let index = from; index < to; index++) if (!this.#rows.has(index)) this.#take(index);
    for (const row of this.#free) row.hidden = true;
    this.#onVisible(first, end);
  }

  #release(index, row) {
    // A row with the focus stays where it is: its control would lose the focus otherwise.
    if (row.contains(document.activeElement) && index < this.#length) return;
    this.#rows.delete(index);
    this.#free.push(row);
  }

  #take(index) {
    const row = this.#free.pop() ?? this.#canvas.appendChild(this.#makeRow());
    row.hidden = false;
    this.#rows.set(index, row);
    this.#move(row, index);
    this.#fill(row, index);
  }

  #move(row, index) {
    row.style.transform = `translateY(${index * this.#rowHeight}px)`;
    row.setAttribute("aria-rowindex", index + 2);
  }

  #fill(row, index) {
    row.control.tabIndex = index === this.#active ? 0 : -1;
    this.#fillRow(row, index);
  }

  #focused(target) {
    for (const [index, row] of this.#rows) if (row.contains(target)) this.#activate(index);
  }

  #activate(index) {
    const before = this.#rows.get(this.#active);
    if (before) before.control.tabIndex = -1;
    this.#active = index;
    const row = this.#rows.get(index);
    if (row) row.control.tabIndex = 0;
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.#viewport.clientHeight / this.#rowHeight) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.#length, End: this.#length };
    if (!(event.key in steps) || !this.#length) return;
    event.preventDefault();
    const index = Math.min(this.#length - 1, Math.max(0, this.#active + steps[event.key]));
    this.#reveal(index);
    this.#activate(index);
    this.#place();
    this.#rows.get(index).control.focus({ preventScroll: true });
  }

  #reveal(index) {
    const top = index * this.#rowHeight;
    const room = this.#viewport.clientHeight - this.#canvas.offsetTop;
    if (top < this.#viewport.scrollTop) this.#viewport.scrollTop = top;
    else if (top + this.#rowHeight > this.#viewport.scrollTop + room) {
      this.#viewport.scrollTop = top + this.#rowHeight - room;
    }
  }
}
