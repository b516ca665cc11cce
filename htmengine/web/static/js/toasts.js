// SPDX-License-Identifier: MIT
// Short messages: seen ones in the corner, heard ones for screen readers.

import { h } from "./dom.js";

const SHOWN_MS = 6000;

/** Show a message for a while; `kind` may be "error". */
export function toast(text, kind = "info") {
  const element = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), kind === "error" ? 2 * SHOWN_MS : SHOWN_MS);
}

/** Say something to screen readers only. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
