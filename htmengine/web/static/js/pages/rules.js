// SPDX-License-Identifier: MIT
// The rules in force, and one of them in a form, with what it would have done with the stored past; silences and maintenance.

import { get, isAbort, send, tolerate } from "../api.js";
import { ask } from "../dialogs.js";
import { fill, h, setText } from "../dom.js";
import { errorBox } from "../empty.js";
import * as format from "../format.js";
import { maintenancePanel } from "../maintenance.js";
import { previewed } from "../preview_run.js";
import { ruleForm } from "../rule_form.js";
import { silencesPanel } from "../silences.js";
import { announce, toast } from "../toasts.js";
import { showTrial } from "../trial_view.js";

const NEW = { name: "", source: "stored", options: { metrics: ["*"], pages_per_week: 5 } };
const SOURCES = { "alerts.conf": "in alerts.conf", default: "the default", stored: "stored" };

export function openRules(main, { uid: name, query }) {
  document.title = "Rules · HTM Engine";
  const page = new RulesPage(main, name, query.get("metrics"));
  page.load();
  return () => page.close();
}

class RulesPage {
  #list = h("ul", { class: "cards" });
  #editor = h("section", { class: "panel", "aria-label": "Rule" });
  #trial = h("section", { class: "panel", "aria-label": "Preview", hidden: true });
  #given = new AbortController();
  #running = new AbortController(); // the preview
  #name;
  #metrics;

  constructor(main, name, metrics) {
    this.#name = name ?? null;
    this.#metrics = metrics;
    main.append(
      h(
        "div",
        { class: "page" },
        h("div", { class: "page-head" }, h("h1", {}, "Rules"), h("span", { class: "spring" }), h("button", { type: "button", onclick: () => { location.hash = "#/rules"; } }, "New rule")),
        h(
          "div",
          { class: "rules-grid" },
          h("section", { class: "panel", "aria-label": "Rules in force" }, this.#list),
          h("div", { class: "rule-column" }, this.#editor, this.#trial),
          silencesPanel(this.#given.signal),
          maintenancePanel(this.#given.signal),
        ),
      ),
    );
  }

  close() {
    this.#given.abort();
    this.#running.abort();
  }

  async load() {
    try {
      const { rules, receivers } = await get("alert/rules", {}, this.#given.signal);
      fill(this.#list, ...rules.map((rule) => this.#card(rule)));
      this.#edit(rules.find(({ name }) => name === this.#name) ?? this.#fresh(rules), receivers);
    } catch (error) {
      if (isAbort(error)) return;
      fill(this.#editor, errorBox(error, () => this.load()));
      tolerate(error);
    }
  }

  #fresh(rules) {
    const metrics = this.#metrics ? [this.#metrics] : NEW.options.metrics;
    const receivers = rules.find(({ options }) => options.receivers)?.options.receivers;
    return { ...NEW, options: { ...NEW.options, metrics, ...(receivers && { receivers }) } };
  }

  #card({ name, source, options }) {
    const what = options.pages_per_week ? `${format.counted(options.pages_per_week, "page")} a week` : options.pages_per_metric_week ? `${options.pages_per_metric_week} a metric and week` : `threshold ${options.threshold ?? 0.99999}`;
    return h(
      "li",
      {},
      h(
        "a",
        { class: "card", href: `#/rules/${encodeURIComponent(name)}`, "aria-current": name === this.#name ? "true" : null },
        h("span", { class: "card-title" }, name),
        h("span", { class: "muted small mono" }, (options.metrics ?? ["*"]).join(", ")),
        h("span", { class: "card-badges" }, h("span", { class: "badge" }, what), h("span", { class: "badge" }, SOURCES[source])),
      ),
    );
  }

  #edit(rule, receivers) {
    const form = ruleForm(rule, receivers);
    const declared = rule.source === "alerts.conf";
    const stored = rule.source === "stored" && rule.name;
    const button = (text, action, kind = "") => h("button", { type: "button", class: kind, onclick: () => this.#tried(form, action) }, text);
    fill(
      this.#editor,
      h("h2", {}, rule.name || "New rule"),
      declared ? h("p", { class: "muted small" }, "This rule stands in alerts.conf and is changed there. Try other options here.") : null,
      form.element,
      h(
        "div",
        { class: "actions" },
        stored ? button("Delete…", () => this.#delete(rule), "danger") : null,
        button("Preview", () => this.#preview(form), declared ? "primary" : ""),
        declared ? null : button("Save", () => this.#save(form), "primary"),
      ),
    );
    this.#preview(form).catch((error) => form.complain(error));
  }

  async #tried(form, action) {
    try {
      form.complain(null);
      await action();
    } catch (error) {
      if (isAbort(error)) return;
      form.complain(error);
      tolerate(error);
    }
  }

  async #preview(form) {
    const { options } = form.read();
    this.#running.abort();
    const running = (this.#running = new AbortController());
    this.#trial.hidden = false;
    const found = await previewed(options, this.#trial, running).catch((error) => {
      this.#trial.hidden = true;
      throw error;
    });
    if (running !== this.#running) return;
    if (!found) return setText(this.#trial, "The preview was stopped.");
    showTrial(this.#trial, found, this.#given.signal);
    announce(found.summary);
  }

  async #save(form) {
    const { name, options } = form.read();
    await send("PUT", `alert/rules/${encodeURIComponent(name || " ")}`, options);
    toast(`Rule ${name} is in force within seconds.`);
    this.#name = name;
    history.replaceState(null, "", `#/rules/${encodeURIComponent(name)}`);
    await this.load();
  }

  #delete({ name }) {
    return ask({
      title: `Delete the rule ${name}`,
      text: "Its open incidents end.",
      action: "Delete",
      danger: true,
      submit: async () => {
        await send("DELETE", `alert/rules/${encodeURIComponent(name)}`);
        toast(`Rule ${name} is gone.`);
        location.hash = "#/rules";
      },
    });
  }
}
