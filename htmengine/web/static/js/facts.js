// SPDX-License-Identifier: MIT
// What is known of a metric beside its plot: its model, and where its samples are.

import { fill, h } from "./dom.js";
import { filledWithFacts } from "./engine.js";
import * as format from "./format.js";
import { STATES } from "./states.js";

//: Why samples are rejected (the ledger's keys), in words.
const REASONS = {
  field_count: "not three fields",
  line_too_long: "line too long",
  name_characters: "forbidden characters in the name",
  name_too_long: "name too long",
  timestamp_duplicate: "same time as another",
  timestamp_not_a_number: "time is no number",
  timestamp_old: "older than the newest",
  timestamp_summed: "added to the one of the same time",
  timestamp_out_of_range: "time out of range",
  value_not_a_number: "value is no number",
  value_not_finite: "value is no finite number",
};

const reasonWords = (reason) => REASONS[reason] ?? reason.replaceAll("_", " ");

/** A list of terms and what they are: [[term, text or element], ...]. */
export function factList(facts) {
  return h("dl", { class: "facts" }, ...facts.flatMap(([term, what]) => [h("dt", {}, term), h("dd", {}, what)]));
}

/** Fill a panel with a metric's model. */
export function showModel(panel, metric) {
  const { model, unit, rows, status, message, last_timestamp: last, cadence } = metric;
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
    status === "PENDING_DATA" ? waiting(rows, "first_samples", "until the first score") : null,
    model?.young ? waiting(rows, "pending_samples", "until its range is known: no rule looks at its scores before") : null,
    metric.learning ? learning(metric.learning) : null,
    factList([
      ...known,
      ...(unit ? [["Unit", unit]] : []),
      ...(metric.rate ? [["Values", "rates a second of a counter"]] : []),
      ["Samples", format.count(rows)],
      ...(cadence ? [["A sample each", howOften(cadence)]] : []),
      ["Newest sample", last === null ? "none yet" : format.time(last)],
    ]),
  );
}

/** Fill a panel with a ledger (docs/http-api.md): each sample is in exactly one of its places. */
export function showLedger(panel, ledger) {
  const reasons = Object.entries(ledger.rejected).sort(([, one], [, other]) => other - one);
  const rejected = reasons.reduce((sum, [, number]) => sum + number, 0);
  const sub = (text, number) => [h("span", { class: "sub" }, text), format.count(number)];
  const rare = [
    ["of metrics that never changed", ledger.constant],
    ["without a model", ledger.unmonitored],
    ["removed before they were scored", ledger.skipped],
    ["of deleted metrics", ledger.deleted],
    ["of expired metrics", ledger.expired],
  ];
  const unordered = [
    ["Wait for earlier ones", ledger.held],
    ["Came too late, kept", ledger.late],
    ["Rows that fill gaps", ledger.filled],
  ];
  const some = (places) => places.filter(([, number]) => number);
  fill(
    panel,
    h("h2", {}, "Ledger"),
    factList([
      ["Received", format.count(ledger.received)],
      ["Rejected", format.count(rejected)],
      ...reasons.map(([reason, number]) => sub(reasonWords(reason), number)),
      ["Stored", format.count(ledger.stored)],
      sub("scored", ledger.scored),
      sub("waiting for a score", ledger.waiting),
      ...some(rare).map(([text, number]) => sub(text, number)),
      ...some(unordered).map(([text, number]) => [text, format.count(number)]),
      ["Adds up", ledger.adds_up ? "✓ yes" : h("span", { class: "failure" }, "✗ no")],
    ]),
  );
}

function howOften({ interval_s: seconds, since }) {
  return `${format.value(seconds)} s` + (since === null ? "" : `, since ${format.time(since)}`);
}

function learning({ progress, until }) {
  const bar = h("progress", { max: 1, value: progress, "aria-label": "Learnt part of the first 14 days" });
  return h("p", { class: "small" }, bar, ` Learning until ${format.time(until)}: no rule with a budget pages before.`);
}

function waiting(rows, fact, what) {
  const line = h("p", { class: "small" });
  return filledWithFacts(line, (facts) => {
    const needed = facts[fact];
    const bar = h("progress", { max: needed, value: Math.min(rows, needed), "aria-label": `Samples ${what}` });
    fill(line, bar, ` ${Math.min(rows, needed)} of ${needed} samples ${what}`);
  });
}
