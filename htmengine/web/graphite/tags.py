# SPDX-License-Identifier: MIT
"""Metrics by their labels, as Graphite asks: conditions of seriesByTag, and what a query editor may complete.

In: conditions ``tag=value``, ``tag!=value``, ``tag=~expression``, ``tag!=~expression``; expressions match from the
start.  Out: metrics, tags and values.  Graphite's tag ``name`` is the metric's name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from htmengine.repository import counters, reading
from htmengine.selectors import Matcher, Metric
from htmengine.web.graphite.expressions import expression
from htmengine.web.refused import Refused

NAME = "name"
_CONDITION = re.compile(r"([^\s=!~]+)(!?=)(~?)(.*)", re.DOTALL)


class Tagged(NamedTuple):
    """A metric and its tags."""

    uid: str
    name: str
    tags: dict[str, str]


def find_tagged(conn: Connection, conditions: Sequence[str]) -> Iterator[Tagged]:
    """The metrics, by name, that meet all conditions.  Raises `Refused`."""
    matchers = [_matcher(text) for text in conditions]
    texts = counters.long_texts(conn)
    for name, uid in reading.each_metric(conn):
        metric = Metric.of(texts.get(uid, name))
        if all(matcher.takes(metric) for matcher in matchers):
            yield Tagged(uid, name, {**metric.labels, NAME: metric.name})


def tag_names(conn: Connection, conditions: Sequence[str], prefix: str) -> list[str]:
    """The tags of these metrics that begin so."""
    return sorted({tag for each in find_tagged(conn, conditions) for tag in each.tags if tag.startswith(prefix)})


def tag_values(conn: Connection, tag: str, conditions: Sequence[str], prefix: str) -> Counter[str]:
    """The values that a tag has among these metrics, with how many have them."""
    found = (each.tags.get(tag, "") for each in find_tagged(conn, conditions))
    return Counter(value for value in found if value and value.startswith(prefix))


def tag_of(condition: str) -> str:
    """The tag that a condition is of.  Raises `Refused`."""
    return _parts(condition)[0]


def _parts(condition: str) -> tuple[str, str, str, str]:
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise Refused(400, f"{condition[:60]!r} is no condition of tags; write tag=value, or != or =~ or !=~")
    return found[1], found[2], found[3], found[4]


def _matcher(condition: str) -> Matcher:
    tag, operator, is_expression, value = _parts(condition)
    compiled = expression(f"tag {tag[:60]}", f"(?s:(?:{value}).*)") if is_expression else None
    return Matcher("__name__" if tag == NAME else tag, value, compiled, operator == "!=")
