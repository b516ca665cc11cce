// SPDX-License-Identifier: MIT
// Sparklines of the rows that are seen, fetched in bulk and kept for a while.

import { get } from "./api.js";

const AT_ONCE = 100;
const ROWS = 60;
const FRESH_MS = 10000;
const KEPT = 2000;

export class SparklineStore {
  #kept = new Map();
  #asked = new Set();
  #onLoaded;

  /** onLoaded(uids): some have come. */
  constructor(onLoaded) {
    this.#onLoaded = onLoaded;
  }

  /** {timestamp, value, anomaly_score}, or null while it is not here. */
  of(uid) {
    return this.#kept.get(uid)?.rows ?? null;
  }

  /** Fetch those that are not here or old. */
  async want(uids) {
    const old = Date.now() - FRESH_MS;
    const wanted = uids.filter((uid) => !this.#asked.has(uid) && !(this.#kept.get(uid)?.at > old));
    for (let at = 0; at < wanted.length; at += AT_ONCE) await this.#fetch(wanted.slice(at, at + AT_ONCE));
  }

  async #fetch(uids) {
    uids.forEach((uid) => this.#asked.add(uid));
    try {
      const { sparklines } = await get("sparklines", { uid: uids, rows: ROWS });
      const at = Date.now();
      for (const [uid, rows] of Object.entries(sparklines)) {
        this.#kept.delete(uid); // an insertion makes it the newest of the map
        this.#kept.set(uid, { rows, at });
      }
      for (const uid of this.#kept.keys()) {
        if (this.#kept.size <= KEPT) break;
        this.#kept.delete(uid);
      }
      this.#onLoaded(uids);
    } finally {
      uids.forEach((uid) => this.#asked.delete(uid));
    }
  }
}
