# SPDX-License-Identifier: MIT
"""Who paged nobody in the past: silences, maintenance and what was called fine, each as of an alarm's time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from htmengine.alerts.configuration import Maintenance
from htmengine.alerts.evaluation import in_maintenance
from htmengine.incidents import queries
from htmengine.incidents.candidates import Quiet
from htmengine.incidents.feedback import is_like
from htmengine.incidents.grouping import Alarm, Outcome
from htmengine.incidents.preview import PastRow
from htmengine.incidents.records import Silence
from htmengine.repository import fine_spans
from htmengine.repository.fine_spans import FineSpan


@dataclass(frozen=True, slots=True)
class PastQuiet:
    """What there was of it.  Silences and spans have their times; the maintenance is that which is asked for."""

    maintenance: Sequence[Maintenance] = ()
    silences: Sequence[Silence] = ()
    fine: Mapping[str, Sequence[FineSpan]] = field(default_factory=dict)
    name_labels: tuple[str, ...] = ()

    def reason(self, alarm: Alarm) -> Outcome | None:
        """Why nobody is to be paged because of an alarm; None: somebody may be."""
        at = float(alarm.timestamp)
        reason = Quiet(self.silences, self.maintenance, at, self.name_labels).reason(alarm.metric, at)
        return reason or (Outcome.FINE if is_like(self.fine.get(alarm.uid, ()), alarm) else None)

    def outside_maintenance(self, rows: Iterable[PastRow]) -> Iterable[PastRow]:
        """The rows that rules with a threshold are told of."""
        if not self.maintenance:
            return rows
        return (each for each in rows if not in_maintenance(self.maintenance, each.metric, each.row.timestamp))


NOBODY_QUIET = PastQuiet()


def past_quiet(
    conn: Connection,
    since: int,
    uids: Sequence[str],
    maintenance: Sequence[Maintenance],
    name_labels: tuple[str, ...] = (),
) -> PastQuiet:
    """That since an epoch second, about metrics by uid."""
    return PastQuiet(maintenance, queries.silences(conn, since), fine_spans.of_metrics(conn, uids), name_labels)
