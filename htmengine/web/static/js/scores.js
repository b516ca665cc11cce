// SPDX-License-Identifier: MIT
// What a score means: usual (green), unusual from 0.999 (yellow), anomalous from 0.99999 (red).  Each level has a word
// and a shape beside its colour.

import { h } from "./dom.js";
import * as format from "./format.js";

export const UNUSUAL = 0.999;
export const ANOMALOUS = 0.99999;

/** The levels, keys of `LEVELS` and names of colours in tokens.css. */
export const LEVELS = {
  anomalous: { word: "anomalous", shape: "◆" },
  unusual: { word: "unusual", shape: "▲" },
  usual: { word: "usual", shape: "●" },
  unscored: { word: "not scored", shape: "○" },
};

export function levelOf(score) {
  if (score === null || score === undefined) return "unscored";
  if (score >= ANOMALOUS) return "anomalous";
  return score >= UNUSUAL ? "unusual" : "usual";
}

/** A score's height from 0 to 1 on a scale of nines: 0.9 is 0.1, 0.999 is 0.3, 0.99999 is 0.5. */
export function height(score) {
  return score === null || score === undefined ? 0 : Math.log10(1.0000000001 - score) / -10;
}

/** An element that shows a score: shape, number, and the word for those who do not see the shape. */
export function scoreMark(score) {
  return showScore(h("span"), score);
}

/** Make an element of `scoreMark` show another score. */
export function showScore(element, score) {
  const level = levelOf(score);
  element.className = `score ${level}`;
  element.replaceChildren(
    h("span", { class: "shape", "aria-hidden": "true" }, LEVELS[level].shape),
    score === null || score === undefined ? "not scored" : format.score(score),
    score === null || score === undefined ? "" : h("span", { class: "visually-hidden" }, ` ${LEVELS[level].word}`),
  );
  return element;
}
