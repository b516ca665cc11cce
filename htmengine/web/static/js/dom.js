// SPDX-License-Identifier: MIT
// Elements from code.  Text only ever becomes text nodes, so no metric's name can become markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * A new element: h("a", {href: "#/", class: "brand", onclick: go}, "text", child, null).
 * Functions become listeners; true and false set and leave out an attribute; children that are null are left out.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** A label that only screen readers know of. */
export const hiddenLabel = (id, text) => h("label", { for: id, class: "visually-hidden" }, text);

/** A choice of [[value, text], ...]; `chosen` may be a value or anything else. */
export function select(id, options, chosen, onchange) {
  const element = h("select", { id, onchange }, ...options.map(([value, text]) => h("option", { value }, text)));
  if (options.some(([value]) => value === chosen)) element.value = chosen;
  return element;
}

/** Make `children` the only children. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set the text unless it is that already (a change of nothing would still cost layout). */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  return fill(element, ...children);
}
