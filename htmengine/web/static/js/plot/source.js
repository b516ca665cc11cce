// SPDX-License-Identifier: MIT
// A metric's series in the detail that a view needs.  Asks for a wider range than is seen, on a grid, so that small moves
// need no request and going back needs none either.

import { get, metricPath } from "../api.js";
import { span } from "./viewport.js";

//: Points for a range of the grid's size; between half and all of them are seen.
const POINTS = 1600;
const MOST_POINTS = 5000;
const KEPT = 60;
//: How long an answer that reaches the newest sample is taken for new.
const FRESH_MS = 5000;

export class PlotSource {
  #path;
  #evidencePath;
  #kept = new Map();
  #loading = null;
  #judging = null;
  #closed = new AbortController();

  constructor(uid) {
    this.#path = metricPath(uid, "/plot");
    this.#evidencePath = metricPath(uid, "/evidence");
  }

  /** The range and detail of what is asked for to show a view: {from, until, points}. */
  static request(view) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(64, span(view))));
    const quarter = size / 4;
    const from = Math.floor(view.from / quarter) * quarter - quarter;
    const until = Math.ceil(view.until / quarter) * quarter + quarter;
    return { from, until, points: Math.min(MOST_POINTS, Math.round((POINTS * (until - from)) / size)) };
  }

  /** Whether what was asked for shows a view in its right detail, with room on both sides. */
  static serves(request, view) {
    const best = PlotSource.request(view);
    const density = ({ from, until, points }) => points / (until - from);
    return request.from <= view.from && request.until >= view.until && density(request) === density(best);
  }

  /** The columns of a request; an older one that still runs is given up. */
  async load(request) {
    const key = Object.values(request).join(" ");
    const kept = this.#kept.get(key);
    if (kept && (kept.closed || kept.at > Date.now() - FRESH_MS)) return kept.plot;
    this.#loading?.abort();
    this.#loading = new AbortController();
    const plot = await get(this.#path, request, this.#loading.signal);
    this.#keep(key, { plot, at: Date.now(), closed: plot.last_timestamp > request.until });
    return plot;
  }

  /** What was expected in the buckets of a request, and which evidence spoke; a metric without a model raises a `Problem`. */
  async evidence(request) {
    this.#judging?.abort();
    this.#judging = new AbortController();
    return get(this.#evidencePath, request, this.#judging.signal);
  }

  /** The whole series, coarsely. */
  whole(points) {
    return get(this.#path, { points }, this.#closed.signal);
  }

  /** Forget all: scores have changed. */
  forget() {
    this.#kept.clear();
  }

  close() {
    this.#closed.abort();
    this.#loading?.abort();
    this.#judging?.abort();
  }

  #keep(key, entry) {
    this.#kept.delete(key);
    this.#kept.set(key, entry);
    if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value);
  }
}
