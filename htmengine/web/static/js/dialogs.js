// SPDX-License-Identifier: MIT
// Modal dialogs with a form: the browser keeps the focus inside and gives it back.

import { h } from "./dom.js";

let made = 0;

/**
 * Show a form; resolves with true when `submit` has succeeded, with false when the user turned away.
 *
 * fields: [{name, label, help?, type?, required?, ...attributes of the input}]; `submit` gets {name: text} and throws
 * what goes wrong, which is shown beside the fields that a `Problem` names, or at the end.
 * @param {{title: string, text?: string | string[], fields?: any[], action: string, danger?: boolean,
 *   submit: (values: any) => any}} options
 */
export function ask({ title, text = [], fields = [], action, danger = false, submit }) {
  const prefix = `dialog-${++made}`;
  const inputs = fields.map((field) => input(field, `${prefix}-${field.name}`));
  const failure = h("p", { class: "failure", role: "alert" });
  const confirm = h("button", { type: "submit", class: danger ? "primary danger" : "primary" }, action);
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = h(
    "form",
    { method: "dialog", novalidate: true },
    h("h2", { id: `${prefix}-title` }, title),
    ...[text].flat().map((line) => h("p", { class: "muted small" }, line)),
    ...inputs.map(({ element }) => element),
    failure,
    h("div", { class: "actions" }, cancel, confirm),
  );
  const dialog = h("dialog", { "aria-labelledby": `${prefix}-title` }, form);
  document.body.append(dialog);
  dialog.showModal();
  if (!fields.length) cancel.focus();

  return new Promise((resolve) => {
    let done = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      inputs.forEach((one) => one.complain(""));
      failure.textContent = "";
      confirm.disabled = true;
      try {
        await submit(Object.fromEntries(inputs.map((one) => [one.name, one.control.value.trim()])));
        done = true;
        dialog.close();
      } catch (error) {
        failure.textContent = complainEach(inputs, error) ? "" : error.message;
      } finally {
        confirm.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
  });
}

function input({ name, label, help, ...attributes }, id) {
  const control = h("input", { id, name, autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}-help`, ...attributes });
  const note = h("span", { class: "help", id: `${id}-help` }, help ?? "");
  const element = h("div", { class: "field" }, h("label", { for: id }, label), control, note);
  const complain = (text) => {
    control.setAttribute("aria-invalid", String(Boolean(text)));
    note.classList.toggle("failure", Boolean(text));
    note.textContent = text || help || "";
  };
  return { name, control, element, complain };
}

/** Show each field's complaint beside it; whether all found their field. */
function complainEach(inputs, error) {
  const complaints = error.fields ?? [];
  const found = complaints.filter(({ field, detail }) => {
    const one = inputs.find(({ name }) => field === name || field.endsWith(`.${name}`));
    one?.complain(detail);
    return one;
  });
  inputs.find(({ control }) => control.getAttribute("aria-invalid") === "true")?.control.focus();
  return complaints.length > 0 && found.length === complaints.length;
}
