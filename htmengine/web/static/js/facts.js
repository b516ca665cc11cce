// SPDX-License-Identifier: MIT
// What is known of a metric beside its plot: its model, and where its samples are.

import { fill, h } from "./dom.js";
import * as format from "./format.js";
import { STATES } from "./states.js";

//: The reasons of docs/operations.md for rejected samples, in words.
const REASONS = {
  timestamp_old: "older than the newest",
  timestamp_duplicate: "same time as the newest",
  value_not_finite: "value is no finite number",
  field_count: "not three fields",
};

/** The reason of a rejection in words. */
export const reasonWords = (reason) => REASONS[reason] ?? reason.replaceAll("_", " ");

/** A list of terms and what they are: [[term, text or element], ...]. */
export function factList(facts) {
  return h("dl", { class: "facts" }, ...facts.flatMap(([term, what]) => [h("dt", {}, term), h("dd", {}, what)]));
}

/** Fill a panel with a metric's model. */
export function showModel(panel, metric) {
  const { model, unit, rows, status, message, last_timestamp: last } = metric;
  const known = model
    ? [
        ["Least value", model.min === null ? "as described" : format.value(model.min)],
        ["Greatest value", model.max === null ? "as described" : format.value(model.max)],
        ["Models so far", format.count(model.generation)],
      ]
    : [];
  fill(
    panel,
    h("h2", {}, "Model"),
    h("p", { class: status === "ERROR" ? "failure small" : "muted small" }, message ?? STATES[status]?.help ?? ""),
    status === "PENDING_DATA" ? waiting(rows) : null,
    factList([
      ...known,
      ...(unit ? [["Unit", unit]] : []),
      ["Samples", format.count(rows)],
      ["Newest sample", last === null ? "none yet" : format.time(last)],
    ]),
  );
}

/** Fill a panel with a ledger (docs/http-api.md). */
export function showLedger(panel, { received, stored, rejected, waiting: unscored, scored }) {
  const reasons = Object.entries(rejected).sort(([, one], [, other]) => other - one);
  const total = reasons.reduce((sum, [, number]) => sum + number, 0);
  fill(
    panel,
    h("h2", {}, "Ledger"),
    factList([
      ["Received", format.count(received)],
      ["Stored", format.count(stored)],
      ["Rejected", format.count(total)],
      ...reasons.map(([reason, number]) => [h("span", { class: "sub" }, reasonWords(reason)), format.count(number)]),
      ["Waiting for a score", format.count(unscored)],
      ["Scored", format.count(scored)],
    ]),
  );
}

function waiting(rows) {
  const needed = 288;
  const bar = h("progress", { max: needed, value: Math.min(rows, needed), "aria-label": "Samples until the model starts" });
  return h("p", { class: "small" }, bar, ` ${Math.min(rows, needed)} of ${needed} samples`);
}
