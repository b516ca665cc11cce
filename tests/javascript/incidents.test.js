// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import test from "node:test";

import { gravity, laterText, pagedText, ruleText, shortWhy, undeliveredText, whyText } from "../../htmengine/web/static/js/incident_words.js";

const ROOT = { uid: "a", metric: "db1.queries", timestamp: 1000, value: 8, lower: 180, upper: 240, direction: "down", text: "the mean of 30 minutes is the lowest in 8 weeks" };

test("a reason says where the value went, what was expected, and what spoke", () => {
  assert.equal(whyText(ROOT), "db1.queries fell to 8 where 180 to 240 are expected: the mean of 30 minutes is the lowest in 8 weeks.");
  assert.equal(shortWhy(ROOT), "8 instead of 180 to 240 · the mean of 30 minutes is the lowest in 8 weeks");
});

test("a silent metric has no value", () => {
  const silent = { ...ROOT, value: null, lower: null, upper: null, direction: null, text: "no samples for 15 minutes" };
  assert.equal(whyText(silent), "db1.queries: no samples for 15 minutes.");
  assert.equal(shortWhy(silent), "no samples for 15 minutes");
});

test("metrics are told by how much later they moved", () => {
  assert.equal(laterText(ROOT, ROOT), "moved first");
  assert.equal(laterText({ ...ROOT, uid: "b", timestamp: 1180 }, ROOT), "3 min later");
  assert.equal(laterText({ ...ROOT, uid: "b", timestamp: 880, quiet: "in maintenance" }, ROOT), "in maintenance");
});

test("a rule tells its pages, and how people found them", () => {
  const rule = { rule: "all", pages: 3, held_back: 2, right: 3, fine: 1, precision: 0.75 };
  assert.equal(ruleText(rule), "all: 3 pages this week, 2 held back, 3 of 4 marked right");
  assert.equal(ruleText({ ...rule, held_back: 0, precision: null }), "all: 3 pages this week");
});

test("a message that was not accepted says by whom, why, and what comes of it", () => {
  const message = { subject: "db1.queries", receiver: "ops", state: "WAITING", attempts: 2, answer: "503 Busy" };
  assert.equal(undeliveredText(message), "ops has not accepted the message about db1.queries (2 attempts); it is tried again: 503 Busy");
  assert.match(undeliveredText({ ...message, state: "GIVEN_UP" }), /it was given up: 503 Busy$/);
});

test("an incident that paged nobody says why, and is less grave", () => {
  const held = { phase: "OPEN", paged: false, held_back: "the budget is spent", opened_at: 0 };
  assert.equal(pagedText(held), "not paged: the budget is spent");
  assert.deepEqual([gravity(held), gravity({ ...held, paged: true }), gravity({ ...held, phase: "OVER" })], ["unusual", "anomalous", "usual"]);
});
