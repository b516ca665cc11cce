// SPDX-License-Identifier: MIT
// A panel that lists something of the API as cards, with a button that makes one more.

import { isAbort, tolerate } from "./api.js";
import { fill, h } from "./dom.js";
import { errorBox } from "./empty.js";

/**
 * `read` gives what is listed, `card` an element of one with what loads the list again, `add` makes one more.
 *
 * @param {{title: string, none: string, read: () => Promise<any[]>, card: (one: any, load: () => void) => Element,
 *   action: string, add: () => Promise<any>}} options
 */
export function listPanel({ title, none, read, card, action, add }) {
  const list = h("ul", { class: "cards" });
  const load = async () => {
    try {
      const found = await read();
      fill(list, ...found.map((one) => card(one, load)));
      if (!found.length) fill(list, h("li", { class: "muted small" }, none));
    } catch (error) {
      if (isAbort(error)) return;
      fill(list, errorBox(error, load));
      tolerate(error);
    }
  };
  const button = h("button", { type: "button", onclick: async () => (await add()) && load() }, action);
  load();
  return h("section", { class: "panel", "aria-label": title }, h("h2", {}, title), list, h("div", { class: "actions" }, button));
}
