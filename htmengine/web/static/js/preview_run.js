// SPDX-License-Identifier: MIT
// A preview that the engine computes: how far it is, a button that stops it, its result.

import { get, isAbort, send, tolerate } from "./api.js";
import { fill, h } from "./dom.js";

const LOOK_MS = 250;

/** What the API's preview of a rule tells; null if it was stopped, which `running`, an AbortController, does. */
export async function previewed(options, panel, running) {
  const bar = h("progress", { max: "1", value: "0", "aria-label": "Preview" });
  const stop = h("button", { type: "button", onclick: () => running.abort() }, "Stop");
  fill(panel, h("p", { class: "muted" }, "Trying it on the last 30 days…"), bar, h("div", { class: "actions" }, stop));
  const { id } = await send("POST", "alert/previews", { options });
  try {
    return await result(`alert/previews/${id}`, bar, running.signal);
  } catch (error) {
    if (isAbort(error)) return null;
    throw error;
  } finally {
    send("DELETE", `alert/previews/${id}`).catch(tolerate); // which stops it, too
  }
}

async function result(path, bar, signal) {
  for (;;) {
    const { share, result: found } = await get(path, {}, signal);
    if (found) return found;
    bar.value = share;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
