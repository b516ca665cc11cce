// SPDX-License-Identifier: MIT
// Modal dialogs with a form: the browser keeps the focus inside and gives it back.

import { h } from "./dom.js";
import { complainEach, field } from "./fields.js";

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
  const inputs = fields.map((each) => field(each, `${prefix}-${each.name}`));
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
