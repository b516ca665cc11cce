// SPDX-License-Identifier: MIT
// What the dialog of maintenance sends.

import assert from "node:assert/strict";
import test from "node:test";

import { optionsOf } from "../../htmengine/web/static/js/maintenance.js";

const EMPTY = { metrics: "", at: "", cron: "", for_s: "", timezone: "", learning: "" };

test("what is empty is as by default", () => {
  assert.deepEqual(optionsOf(EMPTY), {});
});

test("hours are seconds, metrics a list, and what is no number goes to the API as it is", () => {
  const given = { ...EMPTY, metrics: 'db1.*, cpu{host="a,b"}', at: "2026-03-01 22:00", for_s: "1.5", learning: "no" };
  assert.deepEqual(optionsOf(given), { metrics: ["db1.*", 'cpu{host="a,b"}'], at: "2026-03-01 22:00", for_s: 5400, learning: false });
  assert.equal(optionsOf({ ...EMPTY, for_s: "long" }).for_s, "long");
});
