// SPDX-License-Identifier: MIT
// Rates of counters that only grow, from what they were at each look; keeps the last ones to draw.

const KEPT = 90;

export class Rate {
  #last = null;
  #history = { timestamp: [], value: [], anomaly_score: [] };

  /** Take a counter's value at a moment (seconds); the rate since the look before, or null at the first. */
  take(at, value) {
    const before = this.#last;
    this.#last = { at, value };
    if (!before || at <= before.at) return null;
    const rate = Math.max(0, (value - before.value) / (at - before.at));
    for (const [name, one] of Object.entries({ timestamp: at, value: rate, anomaly_score: null })) {
      this.#history[name].push(one);
      if (this.#history[name].length > KEPT) this.#history[name].shift();
    }
    return rate;
  }

  /** The last rates, as a sparkline has them. */
  get history() {
    return this.#history;
  }
}
