// SPDX-License-Identifier: MIT
// A metric's states (docs/states.md) in words.

import { h } from "./dom.js";

export const STATES = {
  ACTIVE: { word: "Active", help: "Its model scores every sample." },
  CREATE_PENDING: { word: "Starting", help: "Its model is being made and runs the stored samples." },
  PENDING_DATA: { word: "Waiting for data", help: "It is scored from its first dozen samples on, if these last two minutes." },
  CONSTANT: { word: "Constant", help: "Its value has never changed. Its model starts with the first change." },
  EXPIRED: { word: "Expired", help: "No samples have come for a long time. Its model starts again with the next one." },
  UNMONITORED: { word: "No model", help: "Samples are stored, not scored." },
  ERROR: { word: "Error", help: "Its model could not run." },
};

/** A label with a metric's state. */
export function stateMark(status) {
  return showState(h("span"), status);
}

/** Make an element of `stateMark` show another state. */
export function showState(element, status) {
  element.className = `state state-${status.toLowerCase()}`;
  element.title = STATES[status]?.help ?? "";
  element.textContent = STATES[status]?.word ?? status;
  return element;
}
