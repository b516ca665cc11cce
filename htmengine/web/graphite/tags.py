# SPDX-License-Identifier: MIT
"""Metrics by their labels, as Graphite asks: conditions of seriesByTag, and what a query editor may complete.

In: conditions ``tag=value``, ``tag!=value``, ``tag=~expression``, ``tag!=~expression``; expressions match from the
start.  Out: metrics, tags and values.  Graphite's tag ``name`` is the metric's name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection

from htmengine.repository import counters, label_conditions, reading
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
    matchers = _matchers(conditions)
    return _tagged(conn, matchers, label_conditions.may_take(matchers))


def _tagged(conn: Connection, matchers: Sequence[Matcher], where: ColumnElement[bool]) -> Iterator[Tagged]:
    texts = counters.long_texts(conn)
    for name, uid in reading.each_metric(conn, where):
        metric = Metric.of(texts.get(uid, name))
        if all(matcher.takes(metric) for matcher in matchers):
            yield Tagged(uid, name, {**metric.labels, NAME: metric.name})


def tag_names(conn: Connection, conditions: Sequence[str], prefix: str) -> list[str]:
    """The tags of these metrics that begin so."""
    matchers = _matchers(conditions)
    return sorted({tag for tags in _tags_of(conn, matchers) for tag in tags if tag.startswith(prefix)})


def _tags_of(conn: Connection, matchers: Sequence[Matcher]) -> Iterator[Iterable[str]]:
    """All tags of metrics, some of them again and again.

    A name is asked for that has others than those that are known, until there is none.  When the database cannot tell
    they are read name by name.
    """
    where, known = label_conditions.may_take(matchers), set[str]()
    if label_conditions.is_exact(matchers):
        while name := reading.a_name(conn, where, label_conditions.has_others(sorted(known))):
            tags = Metric.of(name).labels.keys()
            if tags <= known or label_conditions.is_unclear(name):
                break
            known |= tags
        else:
            yield [*known, NAME] if known or reading.a_name(conn, where) else []
            return
    yield from (each.tags for each in _tagged(conn, matchers, where))


def tag_values(conn: Connection, tag: str, conditions: Sequence[str], prefix: str) -> Counter[str]:
    """The values that a tag has among these metrics, with how many have them."""
    matchers = _matchers(conditions)
    where, told = label_conditions.may_take(matchers), Counter[str | None]()
    is_told = label_conditions.is_exact(matchers) and label_conditions.is_plain(tag)
    if is_told:
        told.update(reading.values_of_label(conn, _label(tag), where))
        where = label_conditions.unclear()
    if not is_told or told.pop(None, 0):
        told.update(each.tags.get(tag, "") for each in _tagged(conn, matchers, where))
    return Counter({value: count for value, count in told.items() if value and value.startswith(prefix)})


def tag_of(condition: str) -> str:
    """The tag that a condition is of.  Raises `Refused`."""
    return _parts(condition)[0]


def _parts(condition: str) -> tuple[str, str, str, str]:
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise Refused(400, f"{condition[:60]!r} is no condition of tags; write tag=value, or != or =~ or !=~")
    return found[1], found[2], found[3], found[4]


def _matchers(conditions: Sequence[str]) -> list[Matcher]:
    return [_matcher(text) for text in conditions]


def _label(tag: str) -> str:
    return label_conditions.NAME if tag == NAME else tag


def _matcher(condition: str) -> Matcher:
    tag, operator, is_expression, value = _parts(condition)
    compiled = expression(f"tag {tag[:60]}", f"(?s:(?:{value}).*)") if is_expression else None
    return Matcher(_label(tag), value, compiled, operator == "!=")
