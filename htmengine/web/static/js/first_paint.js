// SPDX-License-Identifier: MIT
// Runs before the first paint, so that a dark page never flashes light; theme.js takes over later.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("htmengine.theme");
  } catch {
    // storage may be forbidden: the system's choice then
  }
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
