// SPDX-License-Identifier: MIT
// Light or dark: the system's choice, or the user's.  Tells what draws on canvases when the colours change.

const KEY = "htmengine.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();
let chosen = read();

/** Connect the switch (a select of auto, light, dark) and follow the system. */
export function startTheme(select) {
  select.value = chosen;
  select.addEventListener("change", () => {
    chosen = select.value;
    write(chosen);
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}

/** Call `listener` after each change of colours; returns what ends that. */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A colour of tokens.css by its name without dashes: colour("plot-line"). */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function apply() {
  const dark = chosen === "auto" ? system.matches : chosen === "dark";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  for (const listener of listeners) listener();
}

function read() {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto";
  }
}

function write(value) {
  try {
    if (value === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, value);
  } catch {
    // storage may be forbidden: the choice lasts as long as the page
  }
}
