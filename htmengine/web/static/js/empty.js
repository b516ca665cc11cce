// SPDX-License-Identifier: MIT
// What the page shows in place of an empty list: a reason, and what to do.

import { h } from "./dom.js";

/** A box with a heading, lines or elements, and buttons. */
export function emptyBox(title, ...content) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, title),
    ...content.map((one) => (typeof one === "string" ? h("p", { class: "muted" }, one) : one)),
  );
}

/** A box for an error, with a button that tries again. */
export function errorBox(error, retry) {
  return h(
    "div",
    { class: "empty", role: "alert" },
    h("h2", {}, "This could not be loaded"),
    h("p", { class: "muted" }, error.message),
    h("button", { type: "button", onclick: retry }, "Try again"),
  );
}
