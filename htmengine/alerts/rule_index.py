# SPDX-License-Identifier: MIT
"""Which rules are for a metric, in a time that does not grow with those that are not.

In: rules, and the names of metrics.  Out: the rules that are for a metric, in their order.  An index is made whenever
the rules change.  It looks only at rules whose selectors ask for a label, or a beginning of the name, that the metric
has, and it remembers what it found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from htmengine.alerts.configuration import Rule
from htmengine.full_texts import remembered
from htmengine.labels import identity
from htmengine.selectors import BEGIN, Metric, Selection

#: Metrics whose rules an index remembers; some 200 bytes each.
REMEMBERED = 100_000


class RuleIndex:
    """The rules of one time.

    >>> index = RuleIndex([Rule("web", metrics=("web.*", "!*.test")), Rule("all"), Rule("a", metrics=('{dc="a"}',))])
    >>> [[rule.name for rule in index.of(name)] for name in ("web.cpu", "web.test", "db.load;dc=a")]
    [['web', 'all'], ['all'], ['all', 'a']]
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._tables = [_Table(patterns, of) for patterns, of in _by_patterns(self.rules).items()]
        #: The rules that are for the metric of that name.
        self.of: Callable[[str], tuple[Rule, ...]] = remembered(self._of, REMEMBERED)

    def _of(self, name: str) -> tuple[Rule, ...]:
        found = sorted(place for table in self._tables for place in table.places(name))
        return tuple(self.rules[place] for place in found)


def _by_patterns(rules: Iterable[Rule]) -> dict[tuple[str, ...], list[tuple[int, Rule]]]:
    """The rules with their places, by the patterns that give a name labels: all have the same, as a rule."""
    found = defaultdict(list)
    for place, rule in enumerate(rules):
        found[rule.name_labels].append((place, rule))
    return found


class _Table:
    """Rules by the keys of their selectors."""

    def __init__(self, patterns: tuple[str, ...], rules: Iterable[tuple[int, Rule]]) -> None:
        self._patterns = patterns
        self._by_key: dict[tuple[str, str], list[tuple[int, Selection]]] = defaultdict(list)
        for place, rule in rules:
            selection = Selection.of(rule.metrics)
            for key in {each.key for each in selection.wanted} or {(BEGIN, "")}:
                self._by_key[key].append((place, selection))
        self._lengths = {len(begin) for label, begin in self._by_key if label == BEGIN}

    def places(self, name: str) -> set[int]:
        """The places of the rules that are for a metric."""
        metric = Metric.of(name, self._patterns)
        maybe = {place: each for key in self._keys(metric) for place, each in self._by_key.get(key, ())}
        return {place for place, selection in maybe.items() if selection.takes_metric(metric)}

    def _keys(self, metric: Metric) -> Iterator[tuple[str, str]]:
        """The keys that selectors of this metric can have."""
        for text in {metric.name, metric.text, identity(metric.text)}:
            yield from ((BEGIN, text[:length]) for length in self._lengths)
        yield "__name__", metric.name
        yield from metric.labels.items()
