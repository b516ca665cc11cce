# SPDX-License-Identifier: MIT
"""Scores for Prometheus, scraped at ``/federate``: the newest value, score, expected value and alarm of metrics.

In: selectors ``match[]``, and how old a newest row may be.  Out: Prometheus's text format.  Each metric is a few series
with its labels, and its name as the label ``metric``.  More metrics than one scrape may have are refused, by name of
the way out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import Connection

from htmengine.export.metric_series import BAND, SCORE, TIMESTAMP, VALUE, Family, alarm, labels_of
from htmengine.incidents import queries
from htmengine.process.twisted_types import Clock
from htmengine.repository.newest import MetricRow, newest_rows
from htmengine.selectors import Selection
from htmengine.web.document import parse_query
from htmengine.web.http import Call, Reply
from htmengine.web.reader import Reader
from htmengine.web.refused import Refused
from htmengine.web.routes import Routes

#: Metrics in one scrape.
MOST_METRICS = 10_000
#: Metrics without a row for so long are left out, so that their series go stale; ``max_age`` says otherwise.
MAX_AGE_S = 3600

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


FAMILIES = (VALUE, TIMESTAMP, SCORE, *BAND)


@dataclass(frozen=True, slots=True)
class Federation:
    """The route."""

    reader: Reader
    clock: Clock

    def add_to(self, routes: Routes) -> None:
        """It wants the right to read."""
        routes.add(["GET"], "/federate", "read", self.federate)

    async def federate(self, call: Call) -> Reply:
        """The metrics that the selectors take; all, if there are none."""
        given = parse_query(call.query)
        selection = Selection.of(tuple(value for name, value in given if name == "match[]"))
        since = int(self.clock.seconds()) - _max_age(dict(given).get("max_age", ""))

        def read(conn: Connection) -> bytes:
            return page(_selected(conn, selection, since), queries.uids_in_open_incidents(conn))

        return Reply(await self.reader.compute(read), CONTENT_TYPE_LATEST)


def _max_age(text: str) -> int:
    if text and not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refused(400, f"max_age: {text[:60]!r} is not a number of seconds", [("max_age", "is not a number")])
    return int(text or MAX_AGE_S)


def _selected(conn: Connection, selection: Selection, since: int) -> list[MetricRow]:
    found: list[MetricRow] = []
    for row in newest_rows(conn, since):
        if selection.takes(row.text):
            found.append(row)
            if len(found) > MOST_METRICS:
                raise Refused(422, f"more than {MOST_METRICS} metrics; ask for fewer with match[], in several scrapes")
    return found


def page(rows: list[MetricRow], alarming: set[str]) -> bytes:
    """All series, family by family."""
    labels = {row.uid: _labels(row.text) for row in rows}
    return "".join(line for family in (*FAMILIES, alarm(alarming)) for line in _lines(family, rows, labels)).encode()


def _lines(family: Family, rows: list[MetricRow], labels: dict[str, str]) -> Iterator[str]:
    name = family.full_name
    yield f"# HELP {name} {family.help}\n# TYPE {name} gauge\n"
    for row in rows:
        figure = family.figure(row)
        if figure is not None:
            yield f"{name}{{{labels[row.uid]}}} {figure!r}\n"


def _labels(text: str) -> str:
    """A metric's labels as Prometheus writes them.

    >>> _labels("disk.used;host=h1")
    'metric="disk.used",host="h1"'
    """
    return ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels_of(text).items())
