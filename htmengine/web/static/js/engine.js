// SPDX-License-Identifier: MIT
// What the engine says of itself once: where lines are sent to, how many samples tell a metric's range.

import { get, tolerate } from "./api.js";
import { connection } from "./connection.js";
import { h } from "./dom.js";

let asked = null;
connection.addEventListener("back", () => {
  asked = null; // it may have restarted, on another port
});

/** The engine's status (docs/http-api.md), as of the first time it was asked for. */
export function engineFacts() {
  asked ??= get("status").catch((error) => {
    asked = null;
    throw error;
  });
  return asked;
}

/** An element that is filled by `show(facts)` as soon as they are known. */
export function filledWithFacts(element, show) {
  engineFacts().then(show).catch(tolerate);
  return element;
}

/** A command that sends a sample of a metric to this engine. */
export function sendingCommand(name) {
  const box = h("pre", { tabindex: "0" }, "…");
  return filledWithFacts(box, ({ graphite }) => {
    const { host, port } = graphite ?? { host: "127.0.0.1", port: 2003 };
    box.textContent = `echo ${quoted(`${name} 0.42 -1`)} | nc -N ${isAny(host) ? location.hostname : host} ${port}`;
  });
}

const isAny = (host) => host === "0.0.0.0" || host === "::";

/** For a shell, whatever a name holds. */
const quoted = (text) => (/^[\w. -]+$/.test(text) ? `"${text}"` : `'${text.replaceAll("'", `'\\''`)}'`);
