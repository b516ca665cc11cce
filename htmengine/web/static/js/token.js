// SPDX-License-Identifier: MIT
// Asks for a token when the engine wants one.  However many requests were refused, one dialog is shown; who turns away
// from it is asked again only by an action of their own.

import { ask } from "./dialogs.js";

let asking = null;
let declined = false;

/** Resolves with whether a token was accepted by `logIn`; `insist` after a refusal, too. */
export function askForToken(logIn, insist) {
  if (declined && !insist) return Promise.resolve(false);
  asking ??= ask({
    title: "A token, please",
    text: "This engine requires a token. Ask its operator for one; a token for reading shows everything here.",
    fields: [{ name: "token", label: "Token", type: "password", required: true }],
    action: "Log in",
    submit: ({ token }) => logIn(token),
  }).then((accepted) => {
    asking = null;
    declined = !accepted;
    return accepted;
  });
  return asking;
}
