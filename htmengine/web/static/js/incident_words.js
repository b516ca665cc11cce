// SPDX-License-Identifier: MIT
// Incidents in words: what happened, since when, whether somebody was paged.  Pure functions.

import * as format from "./format.js";

const MOVES = { up: "rose to", down: "fell to" };

/** "db1.queries fell to 8 where 180 to 240 are expected: the lowest mean of 30 minutes in 8 weeks." */
export function whyText({ metric, value, lower, upper, direction, text }) {
  if (value === null) return `${metric}: ${text}.`;
  const band = lower === null ? "" : ` where ${format.value(lower)} to ${format.value(upper)} are expected`;
  return `${metric} ${MOVES[direction] ?? "is at"} ${format.value(value)}${band}: ${text}.`;
}

/** The same beside the metric's name. */
export function shortWhy({ value, lower, upper, text }) {
  if (value === null) return text;
  return lower === null ? `${format.value(value)} · ${text}` : `${format.value(value)} instead of ${format.value(lower)} to ${format.value(upper)} · ${text}`;
}

/** How much later than the first metric one moved, or why it pages nobody. */
export function laterText(member, first) {
  const later = member.timestamp - first.timestamp;
  if (member.uid === first.uid) return "moved first";
  if (member.quiet) return member.quiet;
  return later ? `${format.duration(later)} later` : "at the same time";
}

/** "since 09:41 · 34 min", or how long it lasted. */
export function sinceText({ timestamp, last_timestamp: last, over_at: over }, now) {
  return over ? `${format.time(timestamp)} · ${last > timestamp ? format.duration(last - timestamp) : "one alarm"}` : `since ${format.time(timestamp)} · ${format.duration(now - timestamp)}`;
}

/** Whether people were paged, and if not, why. */
export function pagedText({ paged, held_back: why, opened_at: at }) {
  return paged ? `paged ${format.time(Math.round(at))}` : `not paged: ${why ?? "no receiver"}`;
}

/** What a rule did in a week, and how people found it. */
export function ruleText({ rule, pages, held_back: held, right, fine, precision }) {
  const heldText = held ? `, ${format.count(held)} held back` : "";
  const marked = precision === null ? "" : `, ${format.count(right)} of ${format.count(right + fine)} marked right`;
  return `${rule}: ${format.counted(pages, "page")} this week${heldText}${marked}`;
}

/** A message that a receiver has not accepted. */
export function undeliveredText({ subject, receiver, state, attempts, answer }) {
  const end = state === "WAITING" ? "it is tried again" : "it was given up";
  return `${receiver} has not accepted the message about ${subject} (${format.counted(attempts, "attempt")}); ${end}: ${answer}`;
}

/** How grave an open incident is: a level of scores.js. */
export const gravity = ({ phase, paged }) => (phase === "OVER" ? "usual" : paged ? "anomalous" : "unusual");
