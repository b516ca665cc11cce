# SPDX-License-Identifier: MIT
"""Metrics whose rows have had another cadence for a short time: since when, and that nothing is found in them yet.

In: what the Anomaly Service keeps of each metric's cadence with its scores.  Out: sentences, of which
`htmengine.telemetry.trouble_watch` tells the operator once; they are troubles as long as the evidence is mute.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from htmengine.process.twisted_types import Clock
from htmengine.repository import counts
from htmengine.repository.counts import ChangedCadence
from htmengine.repository.engine import Database

#: How often it looks.
LOOK_S = 60.0
#: For how long nothing is found, and at least for so many values (evidence/core/constants.hpp).
SETTLING_S, SETTLING_VALUES = 172_800, 100
#: Metrics that are named.
NAMED = 10


class CadenceChanges:
    """Looks through one engine's metrics."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._due = 0.0
        self._told: list[str] = []

    async def look(self) -> list[str]:
        """What is so now."""
        now = self._clock.seconds()
        if now >= self._due:
            self._due = now + LOOK_S
            self._told = told(await self._database.read(counts.changed_cadences, now, SETTLING_S, SETTLING_VALUES))
        return self._told


def told(changed: Sequence[ChangedCadence]) -> list[str]:
    """A sentence for each metric, as far as they are named; it stays the same while the new cadence is measured.

    >>> told([ChangedCadence("web", 1_400_000_000)])[0].partition(":")[0]
    'web has another cadence since 2014-05-13 16'
    """
    sentences = [
        f"{each.name} has another cadence since {_time(each.since)}: nothing is found in it for two days, and at least"
        f" {SETTLING_VALUES} values; htmengine metrics {each.name} shows how often its rows come"
        for each in changed[:NAMED]
    ]
    more = len(changed) - len(sentences)
    return [*sentences, f"{more} metrics more have another cadence"] if more else sentences


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")
