// SPDX-License-Identifier: MIT
// Starts the page: theme, connection, router.

import { connection, showConnection } from "./connection.js";
import { startRouter } from "./router.js";
import { startTheme } from "./theme.js";
import { announce } from "./toasts.js";

startTheme(document.getElementById("theme"));
showConnection(document.getElementById("connection"), document.getElementById("banner"));
connection.addEventListener("back", () => announce("The engine answers again."));
document.querySelector(".skip-link").addEventListener("click", (event) => {
  event.preventDefault(); // the part behind # is the router's
  document.getElementById("main").focus();
});
startRouter(document.getElementById("main"), [...document.querySelectorAll("[data-page]")]);
