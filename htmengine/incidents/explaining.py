# SPDX-License-Identifier: MIT
"""Why a rule with a budget did, or did not, page because of a row: in words.

In: a stored verdict, or a rule and a row that has none.  Out: a sentence.  Pure.
"""

from __future__ import annotations

from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import matches
from htmengine.incidents.budget import FLOOR
from htmengine.incidents.candidates import height_for
from htmengine.incidents.grouping import Outcome
from htmengine.incidents.judging import LEARNING
from htmengine.incidents.records import Verdict
from htmengine.messages import ScoredRow

_SENTENCES = {
    Outcome.PAGED.value: "paged: height {height:.2f} reached the price {price:.2f}; {tokens:.1f} pages were left",
    Outcome.JOINED.value: "joined an incident, which costs nothing: height {height:.2f}, price {price:.2f}",
    Outcome.HELD_OFF.value: "no page: the metric had alarmed within a day; height {height:.2f} was not much higher",
    Outcome.HELD_BACK.value: "no page: height {height:.2f} did not reach the price {price:.2f}; "
    "{tokens:.1f} pages were left",
    Outcome.SPENT.value: "no page: the budget was spent; {tokens:.1f} pages were left, height {height:.2f}",
    Outcome.QUIET.value: "no page: somebody had silenced the metric; height {height:.2f}, price {price:.2f}",
    Outcome.MAINTENANCE.value: "no page: the metric was in maintenance; height {height:.2f}, price {price:.2f}",
    Outcome.FINE.value: "no page: somebody had called the like of it fine; height {height:.2f}, price {price:.2f}",
    LEARNING: "no page: the metric was in its first 14 days; height {height:.2f}",
}


def in_words(verdict: Verdict) -> str:
    """A stored verdict.

    >>> in_words(Verdict("all", "u", 7, "level 6", 0, 5.5, 4.0, 5.0, "paged", "1a7f"))
    'paged: height 5.50 reached the price 4.00; 5.0 pages were left; incident 1a7f'
    """
    sentence = _SENTENCES[verdict.verdict].format(
        height=verdict.height, price=verdict.threshold or 0.0, tokens=verdict.tokens or 0.0
    )
    return sentence + (f"; incident {verdict.incident_id}" if verdict.incident_id else "")


def no_verdict(rule: Rule, metric: str, row: ScoredRow, height: float) -> str:
    """Why a row raised no alarm at all.  ``height``: by its evidence."""
    if not matches(rule, metric):
        return f"no alarm: the rule is not for {metric}"
    if height_for(rule, row) is not None:
        return f"no alarm: the row was too old when it was scored, or the rule is younger; height {height:.2f}"
    if height < FLOOR:
        return f"no alarm: height {height:.2f} is below {FLOOR:g}"
    return f"no alarm: the rule's direction or min_change leaves it out; height {height:.2f}"
