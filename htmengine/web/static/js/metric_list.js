// SPDX-License-Identifier: MIT
// The metrics that search and status let through, as far as they have been loaded: pages come one after another.

import { get } from "./api.js";

const FIRST_PAGE = 100;
const PAGE = 1000;

export class MetricList {
  #filter = {};
  #loaded = new Loaded();
  #loading = new AbortController();
  #onChange;

  /** onChange(): metrics have come or changed. */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** How many there are, loaded or not. */
  get total() {
    return Math.max(this.#loaded.total, this.#loaded.metrics.length);
  }

  /** One by its place, or undefined while it is not loaded. */
  at(index) {
    return this.#loaded.metrics[index];
  }

  /** Whether one is loaded. */
  has(uid) {
    return this.#loaded.byUid.has(uid);
  }

  /** Load what the filter {search, status, sort} lets through, in place of what is here.  Raises what get() raises. */
  load(filter) {
    this.#filter = filter;
    return this.#load((loaded) => this.#show(loaded));
  }

  /** Give up what is being loaded. */
  close() {
    this.#loading.abort();
  }

  /** Look at the first page again; with `order` the metrics are sorted again, too. */
  async refresh(order) {
    const page = await get("metrics", { ...this.#filter, limit: FIRST_PAGE }, this.#loading.signal);
    if (page.total !== this.#loaded.total) {
      const loaded = await this.#load(() => {}); // what is seen stays until all is here
      this.#show(loaded);
      return;
    }
    for (const metric of page.metrics) this.update(metric);
    if (order && this.#filter.sort === "anomaly") this.#loaded.metrics.sort(mostAnomalousFirst);
    this.#onChange();
  }

  /** Take what is new of a metric that is loaded. */
  update(metric) {
    const known = this.#loaded.byUid.get(metric.uid);
    if (known) Object.assign(known, metric);
  }

  async #load(onPage) {
    this.#loading.abort();
    const { signal } = (this.#loading = new AbortController());
    const loaded = new Loaded();
    let after = null;
    do {
      const limit = after ? PAGE : FIRST_PAGE;
      const page = await get("metrics", { ...this.#filter, limit, after }, signal);
      loaded.add(page);
      onPage(loaded);
      after = page.next;
    } while (after);
    return loaded;
  }

  #show(loaded) {
    this.#loaded = loaded;
    this.#onChange();
  }
}

class Loaded {
  metrics = [];
  byUid = new Map();
  total = 0;

  add({ metrics, total }) {
    for (const metric of metrics) {
      if (this.byUid.has(metric.uid)) continue; // it moved from one page to the next
      this.byUid.set(metric.uid, metric);
      this.metrics.push(metric);
    }
    this.total = total;
  }
}

const scoreOf = (metric) => metric.newest?.anomaly_score ?? -1;

function mostAnomalousFirst(one, other) {
  return scoreOf(other) - scoreOf(one) || (one.name < other.name ? -1 : 1);
}
