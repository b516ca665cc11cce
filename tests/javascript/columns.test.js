// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import test from "node:test";

import { EMPTY, appended, drawn, gapsOf, rowsIn, spoken } from "../../htmengine/web/static/js/plot/columns.js";

function plot(timestamps, step = null) {
  const values = timestamps.map((timestamp) => timestamp / 60);
  const scores = timestamps.map(() => 0.5);
  return {
    step, timestamp: timestamps, count: timestamps.map(() => 1), last: values, min: values, max: values,
    anomaly_score: scores, raw_anomaly_score: scores,
  };
}

test("no line crosses a gap", () => {
  const [times, last] = drawn(plot([60, 120, 180, 900]));
  assert.deepEqual(times, [60, 120, 180, 540, 900]);
  assert.equal(last[3], null);
});

test("a gap lasts from the row before it to the row after it", () => {
  assert.deepEqual(gapsOf(drawn(plot([60, 120, 180, 900]))), [[180, 900]]);
});

test("the band stands at the buckets that it is known of", () => {
  const [, , , , , lower, upper] = drawn(plot([60, 120]), { timestamp: [120], lower: [1], upper: [3] });
  assert.deepEqual([lower, upper], [[null, 1], [null, 3]]);
});

test("an empty plot draws nothing", () => {
  assert.deepEqual(drawn(EMPTY), [[], [], [], [], [], [], []]);
});

test("a new result becomes a row of its own where each row is drawn", () => {
  const after = appended(plot([60, 120]), { timestamp: 180, value: 9, anomaly_score: 0.9, raw_anomaly_score: 1 });
  assert.deepEqual(after.timestamp, [60, 120, 180]);
  assert.equal(after.last[2], 9);
});

test("a new result joins the last bucket, whose bounds and scores it widens", () => {
  const after = appended(plot([0, 600], 600), { timestamp: 700, value: 99, anomaly_score: 0.9, raw_anomaly_score: 1 });
  assert.deepEqual([after.timestamp, after.count[1], after.min[1], after.max[1]], [[0, 600], 2, 10, 99]);
  assert.equal(after.anomaly_score[1], 0.9);
});

test("a result from before the last bucket changes nothing", () => {
  const before = plot([0, 600], 600);
  const result = { timestamp: 10, value: 1, anomaly_score: null, raw_anomaly_score: null };
  assert.equal(appended(before, result), before);
});

test("rows in view are those whose bucket is seen", () => {
  const rows = rowsIn(plot([0, 600, 1200], 600), { from: 700, until: 1300 });
  assert.deepEqual(rows.map(({ timestamp }) => timestamp), [600, 1200]);
});

test("what is said of the lanes is of the view alone", () => {
  const evidence = { timestamp: [0, 60, 120], lanes: { level: [7, 1, 2], shape: [0, 0, 0] } };
  assert.match(spoken(evidence, { from: 30, until: 130 }), /level 2, shape 0$/);
});
