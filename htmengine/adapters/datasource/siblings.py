# SPDX-License-Identifier: MIT
"""What metrics of the same name on other hosts show, for a metric that begins.

In: the name of the new metric, and the database.  Out: `SiblingParams` of three of them, which are stored with the
metric's model, so that every replay of its rows has them.  The host is a tag that says so, or the name's first node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from string import digits

from sqlalchemy import Connection

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence.scoring import DAY_S, hours_shown, is_likelihood
from htmengine.full_texts import FULL_TEXTS
from htmengine.htm.params import SiblingParams
from htmengine.repository import queries
from htmengine.repository.counters import learn_texts

#: Tags that name a host, the best first.
HOST_TAGS = ("host", "instance", "server")
#: Fewer siblings than these say nothing of another host; more are not asked.
SIBLINGS = 3
#: A sibling has rows of so many days.
KNOWN_DAYS = 7
#: How many are looked at to find them.
MOST_TRIED = 9
#: Names are read again after this, in seconds.
REMEMBERED_S = 600.0
_NO_DIGITS = str.maketrans("", "", digits)


@dataclass(slots=True)
class Kin:
    """Which metrics have the same name on other hosts, and what they show: remembered for ten minutes."""

    read_at: float = -REMEMBERED_S
    names: dict[str, list[str]] = field(default_factory=dict)  #: by what they share
    shown: dict[str, SiblingParams | None] = field(default_factory=dict)  #: by name

    def siblings_of(self, conn: Connection, name: str, now: float) -> tuple[SiblingParams, ...]:
        """What the metrics show that are most like it by name; nothing if there are fewer than `SIBLINGS`.

        ``now``: epoch seconds.
        """
        if not self.read_at <= now < self.read_at + REMEMBERED_S:
            names = queries.names_with_rows(conn, KNOWN_DAYS * 24)
            learn_texts(conn, names)
            self.names, self.read_at = by_kin(names), now
            self.shown.clear()
        others = [other for other in self.names.get(without_host(name), ()) if other != name]
        alike = sorted(others, key=lambda other: (without_digits(other) != without_digits(name), other))
        found = (self._shown_by(conn, other) for other in alike[:MOST_TRIED])
        siblings = tuple(islice((each for each in found if each is not None), SIBLINGS))
        return siblings if len(siblings) == SIBLINGS else ()

    def _shown_by(self, conn: Connection, name: str) -> SiblingParams | None:
        if name not in self.shown:
            self.shown[name] = shown_by(conn, name)
        return self.shown[name]


def by_kin(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what they share; those that no `SIBLINGS` others share are left out.

    >>> by_kin(["a.cpu", "b.cpu", "c.cpu", "a.disk"])
    {'*.cpu': ['a.cpu', 'b.cpu', 'c.cpu']}
    """
    found = defaultdict(list)
    for name in names:
        found[without_host(name)].append(name)
    return {kin: each for kin, each in found.items() if len(each) >= SIBLINGS}


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


def shown_by(conn: Connection, name: str) -> SiblingParams | None:
    """What a metric shows at each hour of the day; None while it has too few days of rows.

    A state that cannot be read is made again by the Anomaly Service, and shows nothing until then.
    """
    metric = queries.find_metrics(conn, [name]).get(name)
    if metric is None or metric.last_timestamp is None:
        return None
    first, state = queries.first_timestamp(conn, metric.uid), queries.load_states(conn, [metric.uid]).get(metric.uid)
    if first is None or state is None or metric.last_timestamp - first < KNOWN_DAYS * DAY_S:
        return None
    try:
        return None if is_likelihood(state.state) else hours_shown(state.state, metric.last_timestamp)
    except (CorruptCheckpoint, UnknownCheckpointVersion):
        return None
