// SPDX-License-Identifier: MIT
// The metrics that search and status let through, as far as they have been loaded: pages come one after another.

import { get, isAbort } from "./api.js";

const FIRST_PAGE = 100;
const PAGE = 1000;

export class MetricList {
  #filter = {};
  #metrics = [];
  #byUid = new Map();
  #total = 0;
  #loading = null;
  #onChange;

  /** onChange(): metrics have come or changed. */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** How many there are, loaded or not. */
  get total() {
    return Math.max(this.#total, this.#metrics.length);
  }

  /** One by its place, or undefined while it is not loaded. */
  at(index) {
    return this.#metrics[index];
  }

  /** Whether one is loaded. */
  has(uid) {
    return this.#byUid.has(uid);
  }

  /** Load what the filter {search, status, sort} lets through, in place of what is here.  Raises what get() raises. */
  async load(filter) {
    this.#filter = filter;
    this.#loading?.abort();
    const { signal } = (this.#loading = new AbortController());
    try {
      const page = await get("metrics", { ...filter, limit: FIRST_PAGE }, signal);
      this.#metrics = [];
      this.#byUid = new Map();
      this.#add(page);
      await this.#more(page.next, signal);
    } catch (error) {
      if (!isAbort(error)) throw error;
    }
  }

  /** Give up what is being loaded. */
  close() {
    this.#loading?.abort();
  }

  /** Look at the first page again; with `order` the metrics are sorted anew, too. */
  async refresh(order) {
    if (!this.#metrics.length) return this.load(this.#filter);
    const page = await get("metrics", { ...this.#filter, limit: FIRST_PAGE }, this.#loading.signal);
    if (page.total !== this.#total) return this.load(this.#filter);
    for (const metric of page.metrics) this.update(metric);
    if (order && this.#filter.sort === "anomaly") this.#metrics.sort(mostAnomalousFirst);
    return this.#onChange();
  }

  /** Take what is new of a metric that is loaded. */
  update(metric) {
    const known = this.#byUid.get(metric.uid);
    if (known) Object.assign(known, metric);
  }

  async #more(next, signal) {
    while (next) {
      const page = await get("metrics", { ...this.#filter, limit: PAGE, after: next }, signal);
      this.#add(page);
      next = page.next;
    }
  }

  #add({ metrics, total }) {
    for (const metric of metrics) {
      if (this.#byUid.has(metric.uid)) continue; // it moved from one page to the next
      this.#byUid.set(metric.uid, metric);
      this.#metrics.push(metric);
    }
    this.#total = total;
    this.#onChange();
  }
}

const scoreOf = (metric) => metric.newest?.anomaly_score ?? -1;

function mostAnomalousFirst(one, other) {
  return scoreOf(other) - scoreOf(one) || (one.name < other.name ? -1 : 1);
}
