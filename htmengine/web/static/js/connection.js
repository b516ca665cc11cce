// SPDX-License-Identifier: MIT
// Whether the engine answers.  While it does not, asks again with growing pauses, and tells pages when it is back.

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 10000;

class Connection extends EventTarget {
  #state = "connecting";
  #pause = FIRST_PAUSE_MS;

  /** "connecting", "online" or "away". */
  get state() {
    return this.#state;
  }

  /** A request was answered, whatever the answer. */
  answered() {
    const before = this.#state;
    this.#change("online");
    if (before === "away") this.dispatchEvent(new Event("back"));
  }

  /** A request was not answered. */
  lost() {
    if (this.#state === "away") return;
    this.#change("away");
    this.#pause = FIRST_PAUSE_MS;
    setTimeout(() => this.#ask(), this.#pause);
  }

  /** Something broke: find out whether the engine answers. */
  async check() {
    if (this.#state !== "away" && !(await answers())) this.lost();
  }

  async #ask() {
    if (await answers()) {
      this.answered();
      return;
    }
    this.#pause = Math.min(LONGEST_PAUSE_MS, this.#pause * 2);
    setTimeout(() => this.#ask(), this.#pause);
  }

  #change(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new Event("change"));
  }
}

async function answers() {
  try {
    await fetch("api/v1/session");
    return true;
  } catch {
    return false;
  }
}

export const connection = new Connection();

/** Show the connection's state in the bar's label and the banner. */
export function showConnection(label, banner) {
  const words = { connecting: "Connecting…", online: "Connected", away: "Reconnecting…" };
  const show = () => {
    label.dataset.state = connection.state;
    label.textContent = words[connection.state];
    banner.hidden = connection.state !== "away";
    banner.textContent = banner.hidden ? "" : "The engine does not answer. This page may be out of date; it keeps trying.";
  };
  connection.addEventListener("change", show);
  show();
}
