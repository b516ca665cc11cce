// SPDX-License-Identifier: MIT
// Fields of forms: a label, an input or a choice, and help, in whose place a complaint stands; it opens the group that
// its field is in.

import { h, select } from "./dom.js";

/**
 * {name, control, element, complain(text)}; `choices`: [[value, text], ...], of which the first is chosen by default.
 * @param {any} description {name, label, help?, choices?, wide?, value?, ...attributes of the input}
 */
export function field({ name, label, help = "", choices, wide = false, value, ...attributes }, id) {
  const control = choices
    ? select(id, choices, value || choices[0][0])
    : h("input", { id, name, value, autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}-help`, ...attributes });
  const note = h("span", { class: "help", id: `${id}-help` }, help);
  const complain = (text) => {
    control.setAttribute("aria-invalid", String(Boolean(text)));
    note.classList.toggle("failure", Boolean(text));
    note.textContent = text || help;
    if (text) control.closest("details")?.setAttribute("open", "");
  };
  return { name, control, complain, element: h("div", { class: wide ? "field wide" : "field" }, h("label", { for: id }, label), control, note) };
}

/** Show what a `Problem` complains of beside each field; whether all found theirs. */
export function complainEach(fields, { fields: complaints = [] }) {
  const found = complaints.filter(({ field: where, detail }) => {
    const one = fields.find(({ name }) => where.split(/[.[]/).includes(name));
    one?.complain(detail);
    return one;
  });
  fields.find(({ control }) => control.getAttribute("aria-invalid") === "true")?.control.focus();
  return complaints.length > 0 && found.length === complaints.length;
}
