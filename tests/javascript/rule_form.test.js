// SPDX-License-Identifier: MIT
// A rule's list of metrics as the form has it.

import assert from "node:assert/strict";
import test from "node:test";

import { separated } from "../../htmengine/web/static/js/rule_form.js";

test("commas in braces separate nothing", () => {
  assert.deepEqual(separated('web.*, cpu{job="a,b",host=~"x{2}"} ,!*.test,'), ["web.*", 'cpu{job="a,b",host=~"x{2}"}', "!*.test"]);
  assert.deepEqual(separated(" "), []);
});
