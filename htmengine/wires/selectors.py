# SPDX-License-Identifier: MIT
"""Metrics by glob and by label: ``web.*``, ``{job="api",instance=~"web.*"}``, or both.

In: a selector's text.  Out: a `Selector`, which tells whether it takes a metric.

In a glob ``*`` is any text, dots too; a glob is of the name alone, or of the whole text with labels if it has a ``;``.
Labels are compared as in Prometheus: ``=``, ``!=``, ``=~`` and ``!~``, whole values, a missing label being empty;
``__name__`` is the name.  Regular expressions are RE2's, which take time in proportion to the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, NamedTuple

import re2

from htmengine.errors import InvalidRule
from htmengine.labels import shown, split

MAX_EXPRESSION_BYTES = 1 << 20  #: what one compiled expression may take

_SELECTOR = re.compile(r'([^\s{}"]*)\s*(?:\{(.*)\})?', re.DOTALL)
_MATCHER = re.compile(r'\s*([^\s=!~,{}"]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_ESCAPE = re.compile(r"\\(.)")


class Metric(NamedTuple):
    """A metric's text, and its parts."""

    text: str
    name: str
    labels: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Metric:
        return cls(text, *split(text))


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label."""

    label: str
    wanted: str
    expression: Any  #: RE2's, or None
    negated: bool

    def takes(self, metric: Metric) -> bool:
        value = metric.name if self.label == "__name__" else metric.labels.get(self.label, "")
        same = value == self.wanted if self.expression is None else bool(self.expression.fullmatch(value))
        return same != self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Takes a metric when the glob and all matchers do.

    >>> parse_selector('web.*{dc!="b"}').takes(Metric.of("web.cpu;dc=a"))
    True
    """

    glob: re.Pattern[str] | None
    whole: bool  #: the glob is of the whole text
    matchers: tuple[Matcher, ...]

    def takes(self, metric: Metric) -> bool:
        if self.glob is not None and not self.glob.match(metric.text if self.whole else metric.name):
            return False
        return all(matcher.takes(metric) for matcher in self.matchers)


def parse_selector(text: str) -> Selector:
    """Raises `InvalidRule`."""
    found = _SELECTOR.fullmatch(text.strip())
    if found is None or not text.strip():
        raise InvalidRule(f'selector {shown(text)}; a glob, {{label="value",...}}, or both are allowed')
    glob, inner = found.groups()
    pattern = re.compile(translate(glob)) if glob else None
    return Selector(pattern, ";" in glob, () if inner is None else _matchers(inner))


def linear_expression(pattern: str) -> Any:
    """A compiled expression of RE2's; raises `InvalidRule`."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_EXPRESSION_BYTES
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        raise InvalidRule(f"regular expression {shown(pattern)}: {error.args[0]!s}") from None


def _matchers(inner: str) -> tuple[Matcher, ...]:
    matchers: list[Matcher] = []
    at = 0
    while at < len(inner.rstrip()):
        found = _MATCHER.match(inner, at)
        if found is None:
            raise InvalidRule(f'{shown(inner[at:])}; write label="value", or != or =~ or !~, separated by commas')
        label, operator, value = found[1], found[2], _ESCAPE.sub(r"\1", found[3])
        matchers.append(
            Matcher(label, value, linear_expression(value) if "~" in operator else None, operator[0] == "!")
        )
        at = found.end()
    return tuple(matchers)
