// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import test from "node:test";

import * as format from "../../htmengine/web/static/js/format.js";
import { height, levelOf } from "../../htmengine/web/static/js/scores.js";

test("a score is never rounded up to a level that it has not reached", () => {
  assert.equal(format.score(0.999989), "0.99998");
  assert.equal(levelOf(0.999989), "unusual");
  assert.equal(format.score(null), "–");
});

test("values have six digits, very great and small ones powers of ten", () => {
  assert.deepEqual([1234.5678, 0.00005, 2 ** 63, null].map(format.value), ["1,234.57", "5.000e-5", "9.223e+18", "–"]);
});

test("a length of time has its two greatest units", () => {
  assert.deepEqual([0, 59, 3661, 90000].map(format.duration), ["0 s", "59 s", "1 h 1 min", "1 d 1 h"]);
});

test("things are counted in singular and plural", () => {
  assert.deepEqual([format.counted(1, "metric"), format.counted(22695, "metric")], ["1 metric", "22,695 metrics"]);
});

test("a score's height is on a scale of nines", () => {
  assert.ok(Math.abs(height(0.999) - 0.3) < 1e-6);
  assert.equal(height(null), 0);
});
