# SPDX-License-Identifier: MIT
"""Metrics by glob and by label: ``web.*``, ``{job="api",instance=~"web.*"}``, or both.

In: a selector's text, or a list of them.  Out: a `Selector` or a `Selection`, which tells whether it takes a metric.

In a glob ``*`` is any text, dots too; a glob is of the name alone, or of the whole text with labels, or of its short
identity, if it has a ``;``.
Labels are compared as in Prometheus: ``=``, ``!=``, ``=~`` and ``!~``, whole values, a missing label being empty;
``__name__`` is the name.  Regular expressions are RE2's, which take time in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any, NamedTuple

import re2

from htmengine.errors import InvalidRule
from htmengine.full_texts import FULL_TEXTS
from htmengine.globs import ALLOWED, is_glob
from htmengine.labels import identity, shown, split

MAX_EXPRESSION_BYTES = 1 << 20  #: what one compiled expression may take
BEGIN = ""  #: in a selector's key, instead of a label

_SELECTOR = re.compile(r'([^\s{}"]*)\s*(?:\{(.*)\})?', re.DOTALL)
_MATCHER = re.compile(r'\s*([^\s=!~,{}"]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
#: What stands between the commas of a list: braces and quoted texts may hold commas themselves.
_IN_LIST = re.compile(r'(?:\{(?:"(?:[^"\\]|\\.)*"|[^"}])*\}|[^,\n{]|\{)+')
_ENDS_WITH_LABELS = re.compile(r'[=~]\s*"(?:[^"\\]|\\.)*"\s*,?\s*\}\s*$')
_ESCAPE = re.compile(r"\\(.)")
_WILDCARD = re.compile(r"[*?\[]")


class Metric(NamedTuple):
    """A metric's text, and its parts."""

    text: str
    name: str
    labels: dict[str, str]

    @classmethod
    def of(cls, text: str, patterns: tuple[str, ...] = ()) -> Metric:
        """The metric of a text, or of its short identity, whose labels are all there once its text was learnt.

        With labels of its name, too, by the first pattern that it has; its own labels win.
        """
        text = FULL_TEXTS.of(text)
        name, labels = split(text)
        return cls(text, name, {**labels_of_name(name, patterns), **labels} if patterns else labels)


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label."""

    label: str
    wanted: str
    expression: Any  #: RE2's, or None
    negated: bool

    @property
    def is_plain(self) -> bool:
        """Whether it asks for one value, which is there."""
        return self.expression is None and not self.negated and bool(self.wanted)

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
    begin: str = ""  #: what the glob has before its first wildcard

    @property
    def key(self) -> tuple[str, str]:
        """A label with its value that every metric has which it takes; or ``BEGIN``, with the beginning of its text."""
        given = ((each.label, each.wanted) for each in self.matchers if each.is_plain)
        return (BEGIN, self.begin) if self.begin else next(given, (BEGIN, ""))

    def takes(self, metric: Metric) -> bool:
        if self.glob is not None and not any(map(self.glob.match, self._globbed(metric))):
            return False
        return all(matcher.takes(metric) for matcher in self.matchers)

    def _globbed(self, metric: Metric) -> set[str]:
        return {metric.text, identity(metric.text)} if self.whole else {metric.name}


@dataclass(frozen=True, slots=True)
class Selection:
    """Takes a metric that one of its selectors takes and none of the excluding ones.

    >>> selection = Selection.of(("web.*", '!{dc="b"}'))
    >>> [selection.takes(text) for text in ("web.a;dc=a", "web.a;dc=b", "db.a;dc=a")]
    [True, False, False]
    """

    wanted: tuple[Selector, ...]  #: none: all
    excluded: tuple[Selector, ...]

    @classmethod
    @lru_cache(maxsize=1000)
    def of(cls, texts: tuple[str, ...]) -> Selection:
        """Selectors; those with a ``!`` before them exclude.  Raises `InvalidRule`."""
        wanted = [parse_selector(text) for text in texts if not text.startswith("!")]
        excluded = [parse_selector(text[1:]) for text in texts if text.startswith("!")]
        return cls(tuple(wanted), tuple(excluded))

    def takes(self, text: str, patterns: tuple[str, ...] = ()) -> bool:
        """Whether it takes the metric of this text; ``patterns``: see `labels_of_name`."""
        return self.takes_metric(Metric.of(text, patterns))

    def takes_metric(self, metric: Metric) -> bool:
        """As `takes`."""
        wanted = not self.wanted or any(each.takes(metric) for each in self.wanted)
        return wanted and not any(each.takes(metric) for each in self.excluded)


def labels_of_name(name: str, patterns: tuple[str, ...]) -> dict[str, str]:
    """The labels of a plain name by the first pattern that fits it; none if none does.

    In a pattern ``{label}`` is a node of the name, or, at the end, all that is left; ``*`` is any node.

    >>> labels_of_name("servers.web1.cpu.user", ("servers.{host}.{what}",))
    {'host': 'web1', 'what': 'cpu.user'}
    """
    found = next((match for each in patterns if (match := name_pattern(each).fullmatch(name))), None)
    return {} if found is None else found.groupdict()


@lru_cache(maxsize=1000)
def name_pattern(text: str) -> re.Pattern[str]:
    """A pattern of names as an expression.  Raises `InvalidRule`."""
    *nodes, last = text.split(".")
    try:
        return re.compile(r"\.".join([*(_node(node, "[^.]+") for node in nodes), _node(last, ".+")]))
    except (re.error, ValueError):
        raise InvalidRule(
            f"pattern {shown(text)}; nodes of a name are allowed, and {{label}}, each once, or * in place of a node"
        ) from None


def _node(node: str, anything: str) -> str:
    if node == "*":
        return "[^.]+"
    if node.startswith("{") and node.endswith("}") and node[1:-1].isidentifier() and node.isascii():
        return f"(?P<{node[1:-1]}>{anything})"
    if not node or set(node) & set("{}*"):
        raise ValueError(node)
    return re.escape(node)


def separated(text: str) -> list[str]:
    """The selectors of a list with commas or lines between them.

    >>> separated('web.*, cpu{job="api",dc=~"a,b"},!*.test')
    ['web.*', 'cpu{job="api",dc=~"a,b"}', '!*.test']
    """
    return [part.strip() for part in _IN_LIST.findall(text) if part.strip()]


def rule_lines(text: str) -> list[str]:
    """The rules of a text: lines that are neither blank nor comments.

    >>> rule_lines("drop *.debug.*\\n# said\\n\\nkeep *")
    ['drop *.debug.*', 'keep *']
    """
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@contextmanager
def of_option(option: str) -> Iterator[None]:
    """An `InvalidRule` names the option whose text it is of."""
    try:
        yield
    except InvalidRule as error:
        raise InvalidRule(f"{option}: {error}") from None


def has_labels(text: str) -> bool:
    """Whether a search is a selector with labels.

    >>> has_labels('web.*{job="api"}'), has_labels("web.{a,b}")
    (True, False)
    """
    return _ENDS_WITH_LABELS.search(text) is not None


def parse_selector(text: str) -> Selector:
    """Raises `InvalidRule`."""
    found = _SELECTOR.fullmatch(text.strip())
    if found is None or not text.strip():
        raise InvalidRule(f'selector {shown(text)}; a glob, {{label="value",...}}, or both are allowed')
    glob, inner = found.groups()
    if not is_glob(glob):
        raise InvalidRule(f"selector {shown(text)}; {ALLOWED}")
    pattern = re.compile(translate(glob)) if glob else None
    begin = _WILDCARD.split(glob, maxsplit=1)[0]
    return Selector(pattern, ";" in glob, () if inner is None else _matchers(inner), begin)


def linear_expression(pattern: str) -> Any:
    """A compiled expression of RE2's; raises `InvalidRule`."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_EXPRESSION_BYTES
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        said = error.args[0]
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise InvalidRule(f"regular expression {shown(pattern)}: {said}") from None


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
