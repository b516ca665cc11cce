// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import test from "node:test";

import { gravity, laterText, pagedText, shortWhy, whyText } from "../../htmengine/web/static/js/incident_words.js";

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
});

test("an incident that paged nobody says why, and is less grave", () => {
  const held = { phase: "OPEN", paged: false, held_back: "the budget is spent", opened_at: 0 };
  assert.equal(pagedText(held), "not paged: the budget is spent");
  assert.deepEqual([gravity(held), gravity({ ...held, paged: true }), gravity({ ...held, phase: "OVER" })], ["unusual", "anomalous", "usual"]);
});
