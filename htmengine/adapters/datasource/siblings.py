# SPDX-License-Identifier: MIT
"""What metrics of the same name on other hosts show, for a metric that begins.

In: the new metric, and the database.  Out: `SiblingParams` of three of them, which are stored with the metric's model,
so that every replay of its rows has them.  The host is a tag that says so, or the name's first node.

Nothing but stored rows decides: those of the seven days before the one on which the metric began.  So an engine that is
killed on the way finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from string import digits

import numpy as np
from sqlalchemy import Connection

from htmengine.evidence.siblings import hours_of
from htmengine.full_texts import FULL_TEXTS
from htmengine.htm.params import SiblingParams
from htmengine.labels import HOST_TAGS
from htmengine.repository import queries, reading
from htmengine.repository.counters import learn_texts
from htmengine.repository.queries import Metric

#: Fewer siblings than these say nothing of another host; more are not asked.
SIBLINGS = 3
#: A sibling has rows of so many days; these are looked at.
KNOWN_DAYS = 7
#: It has at least so many rows, and no more than so many are read of it, at even distances.
KNOWN_ROWS, READ_ROWS = 24, 2016
#: How many are looked at to find them.
MOST_TRIED = 9
#: Names are read again after this, in seconds: other processes make and delete metrics, too.
REMEMBERED_S = 600.0
_DAY_S = 86_400
_NO_DIGITS = str.maketrans("", "", digits)


@dataclass(slots=True)
class Kin:
    """Which metrics have the same name on other hosts, and what they show: remembered for ten minutes."""

    read_at: float = -REMEMBERED_S
    names: dict[str, set[str]] = field(default_factory=dict)  #: by what they share
    shown: dict[tuple[str, int], SiblingParams | None] = field(default_factory=dict)  #: by name and day

    def learn(self, names: Iterable[str]) -> None:
        """These metrics, whose labels are known, have `KNOWN_ROWS` now."""
        for name in names:
            self.names.setdefault(without_host(name), set()).add(name)

    def siblings_of(self, conn: Connection, metric: Metric, now: float) -> tuple[SiblingParams, ...]:
        """What the metrics show that are most like it by name; nothing if there are fewer than `SIBLINGS`.

        ``now``: epoch seconds.
        """
        if not self.read_at <= now < self.read_at + REMEMBERED_S:
            self.names, self.shown, self.read_at = {}, {}, now
            names = queries.names_with_rows(conn, KNOWN_ROWS)
            learn_texts(conn, names)
            self.learn(names)
        began, others = queries.first_timestamp(conn, metric.uid), self.most_like(metric.name)
        if began is None or len(others) < SIBLINGS:
            return ()
        found = (self._shown_by(conn, other, began // _DAY_S * _DAY_S) for other in others[:MOST_TRIED])
        siblings = tuple(islice((each for each in found if each is not None), SIBLINGS))
        return siblings if len(siblings) == SIBLINGS else ()

    def most_like(self, name: str) -> list[str]:
        """Metrics of the same name on other hosts, those whose names differ in digits only first."""
        others = self.names.get(without_host(name), set()) - {name}
        return sorted(others, key=lambda other: (without_digits(other) != without_digits(name), other))

    def _shown_by(self, conn: Connection, name: str, day: int) -> SiblingParams | None:
        if (name, day) not in self.shown:
            self.shown[name, day] = shown_by(conn, name, day)
        return self.shown[name, day]


def without_host(name: str) -> str:
    """What metrics of the same name on other hosts share.

    >>> without_host("web1.cpu.user"), without_host("cpu;core=0;host=web1"), without_host("load")
    ('*.cpu.user', 'cpu;core=0;host=*', 'load')
    """
    path, *tags = FULL_TEXTS.of(name).split(";")
    keys = [tag.partition("=")[0] for tag in tags]
    host = next((key for key in HOST_TAGS if key in keys), None)
    if host is not None:
        return ";".join((path, *(f"{host}=*" if key == host else tag for key, tag in zip(keys, tags, strict=True))))
    _, dot, rest = path.partition(".")
    return ";".join((f"*.{rest}" if dot else path, *tags))


def without_digits(name: str) -> str:
    """Names of like hosts differ in digits only."""
    return name.translate(_NO_DIGITS)


def shown_by(conn: Connection, name: str, day: int) -> SiblingParams | None:
    """What a metric showed at each hour of the days before one that begins then (epoch seconds), if it knows them."""
    metric, since = queries.find_metrics(conn, [name]).get(name), day - KNOWN_DAYS * _DAY_S
    first = queries.first_timestamp(conn, metric.uid) if metric is not None and metric.status.has_model else None
    if metric is None or first is None or first > since:
        return None
    span = reading.span_of(conn, metric.uid, since, day - 1)
    rows = queries.samples_at(conn, metric.uid, range(span.first, span.last + 1, -(-span.rows // READ_ROWS) or 1))
    return hours_of(np.array([at for at, _ in rows], np.int64), np.array([value for _, value in rows], np.float64))
