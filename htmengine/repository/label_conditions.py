# SPDX-License-Identifier: MIT
"""Conditions on labels as conditions of SQL, so that the database leaves out the metrics that they do not take.

In: `selectors.Matcher` and labels.  Out: expressions on ``metric.name``.  They tell nothing of a name that has percent
signs, whose labels may be spelled in several ways, or that stands for a longer text: such names are `unclear`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, case, func, or_, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from htmengine.labels import DIGEST_MARK
from htmengine.repository.schema import metric
from htmengine.selectors import Matcher, Selector

NAME = "__name__"
#: What a label or a value may be spelled otherwise for.
_ESCAPED = re.compile(r"[;!^=~%\s]")

_TEXT = metric.c.name
_ENDED = _TEXT + ";"


class _PositionOf(GenericFunction[int]):
    """Where a text is first in another, from 1 on; 0: nowhere."""

    type = Integer()
    name = "position_of"
    inherit_cache = True


@compiles(_PositionOf)
def _instr(element: Any, compiler: Any, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)})"


@compiles(_PositionOf, "postgresql")
def _strpos(element: Any, compiler: Any, **kw: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **kw)})"


def unclear() -> ColumnElement[bool]:
    """Of which names nothing is told here."""
    return or_(func.position_of(_TEXT, "%") > 0, func.position_of(_TEXT, DIGEST_MARK) > 0)


def is_unclear(name: str) -> bool:
    """The same of a name that was read."""
    return "%" in name or DIGEST_MARK in name


def may_take(matchers: Sequence[Matcher], begin: str = "") -> ColumnElement[bool]:
    """What holds for each metric that all matchers take, and whose text begins so; others are left for Python."""
    begins = func.position_of(_TEXT, begin) == 1 if begin else true()
    return or_(and_(begins, *map(_condition, matchers)), unclear())


def may_select(selector: Selector) -> ColumnElement[bool]:
    """The same of a selector."""
    return may_take(selector.matchers, selector.begin)


def is_exact(matchers: Sequence[Matcher]) -> bool:
    """Whether `may_take` holds for no clear name that the matchers do not take."""
    return all(each.is_plain and is_plain(each.label, each.wanted) for each in matchers)


def is_plain(label: str, value: str = "") -> bool:
    """Whether they are spelled in one way."""
    return _ESCAPED.search(label + value) is None


def _condition(matcher: Matcher) -> ColumnElement[bool]:
    label, value, expression = matcher.label, matcher.wanted, matcher.expression
    if expression is not None:
        needs_label = is_plain(label) and label != NAME and not matcher.negated and not expression.fullmatch("")
        return has_label(label) if needs_label else true()
    if not value or not is_plain(label, value):
        return true()
    if label == NAME:
        place = func.position_of(_ENDED, f"{value};")
        return place != 1 if matcher.negated else place == 1
    found = func.position_of(_ENDED, f";{label}={value};")
    return found == 0 if matcher.negated else found > 0


def has_label(label: str) -> ColumnElement[bool]:
    """Whether a name has a label."""
    return func.position_of(_TEXT, f";{label}=") > 0


def value_of(label: str) -> ColumnElement[str]:
    """The value of a label that a name has; of ``__name__``: what stands before all labels."""
    mark = f";{label}="
    rest = _ENDED if label == NAME else func.substr(_ENDED, func.position_of(_ENDED, mark) + len(mark))
    return func.substr(rest, 1, func.position_of(rest, ";") - 1)


def has_others(labels: Sequence[str]) -> ColumnElement[bool]:
    """Whether a name may have a label that is none of these."""
    several = func.length(_TEXT) - func.length(func.replace(_TEXT, ";", ""))
    for label in labels:
        several = several - case((has_label(label), 1), else_=0)
    return or_(and_(func.position_of(_TEXT, ";") > 0, or_(several > 0, unclear())), func.position_of(_TEXT, "%") > 0)
