// SPDX-License-Identifier: MIT
// The form of a rule: its options as fields, as the API has them.

import { h } from "./dom.js";
import { complainEach, field } from "./fields.js";

/** The options that the form has; a rule may have others, which are kept. */
const FIELDS = [
  { name: "metrics", label: "Metrics", help: 'Globs and labels, with commas between them: cpu.*{job="api"}, !*.test', wide: true },
  { name: "pages_per_week", label: "Pages a week", help: "For all its metrics together", inputmode: "decimal" },
  { name: "direction", label: "Direction", choices: [["both", "up and down"], ["up", "up only"], ["down", "down only"]] },
  { name: "min_change", label: "Least change", help: "A number, or a share such as 10%" },
  { name: "valid_range", label: "Valid range", help: "LOW..HIGH; outside it a value always counts" },
  { name: "rows", label: "Rows", help: "So many have to count", inputmode: "numeric" },
  { name: "receivers", label: "Receivers", help: "alerts.conf has: $receivers. Without any, incidents are listed and page nobody." },
];
const LISTS = ["metrics", "receivers"];
const NUMBERS = ["pages_per_week", "rows"];

/** The fields of a rule's name and options; read() gives {name, options}, complain() shows what the API refuses. */
export function ruleForm(rule, receivers) {
  const name = field({ name: "name", label: "Name", help: "Letters, digits, - and _", value: rule.name }, "rule-name");
  const known = receivers.length ? receivers.join(", ") : "none";
  const fields = FIELDS.map((each) => {
    const value = shown(rule.options[each.name], each);
    return field({ ...each, help: each.help?.replace("$receivers", known), value }, `rule-${each.name}`);
  });
  const failure = h("p", { class: "failure", role: "alert" });
  const element = h("div", {}, h("div", { class: "rule-fields" }, name.element, ...fields.map((one) => one.element)), failure);
  return {
    element,
    read: () => ({ name: name.control.value.trim(), options: { ...rule.options, ...given(fields, rule.options) } }),
    complain(error) {
      [name, ...fields].forEach((one) => one.complain(""));
      failure.textContent = error && !complainEach([name, ...fields], error) ? error.message : "";
    },
  };
}

const shown = (value, { name }) => (value === undefined ? "" : LISTS.includes(name) ? value.join(", ") : String(value));

/** Options of the fields; one that is empty is as by default. */
function given(fields, before) {
  const options = {};
  for (const { name, control } of fields) {
    const text = control.value.trim();
    if (text === "" || (name === "direction" && text === "both")) {
      if (name in before) options[name] = undefined;
    } else if (LISTS.includes(name)) options[name] = separated(text);
    else options[name] = NUMBERS.includes(name) && Number.isFinite(Number(text)) ? Number(text) : text;
  }
  return options;
}

/** The parts between commas, but those in braces: cpu{a="x,y"}, web.*. */
export function separated(text) {
  return (text.match(/(?:\{(?:"(?:[^"\\]|\\.)*"|[^"}])*\}|[^,{]|\{)+/g) ?? []).map((part) => part.trim()).filter(Boolean);
}
