// SPDX-License-Identifier: MIT
// A rule's options as the form has them.

import assert from "node:assert/strict";
import test from "node:test";

import { optionOf, separated, shown } from "../../htmengine/web/static/js/rule_form.js";

test("commas in braces separate nothing", () => {
  assert.deepEqual(separated('web.*, cpu{job="a,b",host=~"x{2}"} ,!*.test,'), ["web.*", 'cpu{job="a,b",host=~"x{2}"}', "!*.test"]);
  assert.deepEqual(separated(" "), []);
});

test("an option comes out of its field as it went in", () => {
  for (const [kind, value] of [
    ["list", ["web.*", 'cpu{job="a,b"}']],
    ["number", 0.5],
    ["text", "10%"],
    ["flag", true],
    ["flag", false],
    ["silence", false],
    ["silence", 900],
    ["pairs", { team: "web", query: "a=b" }],
    ["heights", { low: 4, high: 6.5 }],
    ["heights", { page: 0 }],
  ]) {
    assert.deepEqual(optionOf(kind, shown(kind, value)), value);
  }
  assert.equal(optionOf("number", shown("number", undefined)), undefined);
});

test("what a field cannot read goes to the API as it is, which refuses it", () => {
  assert.equal(optionOf("pairs", "team"), "team");
  assert.equal(optionOf("heights", "low=much"), "low=much");
  assert.equal(optionOf("silence", "later"), "later");
  assert.equal(optionOf("number", "much"), "much");
});
