# SPDX-License-Identifier: MIT
"""Samples into the order of their times, in the transaction that stores them.

In: the samples that came, in the order of arrival.  Out: those to be stored now, by metric in the order of time, among
them some that came earlier and waited.  Those that wait now are in the table held_sample: they are as durable as rows,
so the batch that brought them may be acknowledged.  `late_window` decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs
from sqlalchemy import Connection

from htmengine.cadence import LEARNT, Cadence, cadence_of
from htmengine.messages import GAUGE, Sample, SampleBatch
from htmengine.repository import late_samples
from htmengine.repository.late_samples import HeldSample
from htmengine.repository.queries import Tail
from htmengine.runtime.late_window import FIRST, SUM, LateWindow, take


class Came(NamedTuple):
    """A sample, and where its line is."""

    sample: Sample
    batch: SampleBatch
    number: int  #: of the line in the batch


class Waiting(NamedTuple):
    """A sample with the time until which it may wait."""

    came: Came
    timestamp: int
    due_at: float
    id: int = 0  #: of its row in held_sample; 0: it has just come


class Learnt(NamedTuple):
    """A metric's cadence, to be remembered, and where its rows ended then."""

    cadence: Cadence
    last_rowid: int
    last_timestamp: int | None = None

    def at(self, tail: Tail) -> Cadence | None:
        """The cadence now, with rows that other storers have stored; None: it is to be learnt from the rows again.

        A load or a rebuild, too, adds rows, which are no steps of the cadence after the last one.
        """
        rows = tail.last_rowid - self.last_rowid
        if rows == 0:
            return self.cadence
        seconds = (tail.last_timestamp or 0) - (self.last_timestamp or 0)
        return self.cadence.after_rows(rows, seconds) if rows > 0 else None


class Ordered(NamedTuple):
    """What becomes of samples, and what is known of their metrics."""

    taken: list[Came]  #: to be stored now, by metric in the order of time
    merged: list[Came]  #: stored with, or replaced by, another one of the same time
    cadences: dict[str, Cadence]  #: by uid
    waiting: bool  #: whether any sample waits


def in_order(
    conn: Connection,
    came: Sequence[Came],
    tails: Mapping[str, Tail],
    window: LateWindow,
    learnt: Mapping[str, Learnt],
    now: float,
) -> Ordered:
    """Which samples are stored now, and which wait."""
    known = _cadences_of(conn, tails.values(), learnt)
    anybody = late_samples.any_held(conn)
    by_metric = _held(conn, tails) if anybody else defaultdict(list)
    for each in came:
        due_at = now + window.wait_s(known[tails[each.sample.name].uid])
        by_metric[each.sample.name].append(Waiting(each, each.sample.timestamp, due_at))
    taken: list[Waiting] = []
    waiting: list[Waiting] = []
    for name, mine in by_metric.items():
        tail = tails[name]
        mine.sort(key=_time_of)
        count, known[tail.uid] = take(tail.last_timestamp, known[tail.uid], mine, now, window.same_time)
        taken += mine[:count]
        waiting += mine[count:]
    late_samples.release(conn, [each.id for each in taken if each.id])
    late_samples.hold(conn, [_to_hold(each, tails) for each in waiting if not each.id])
    came, merged = one_a_time([each.came for each in taken], window.same_time)
    return Ordered(came, merged, known, anybody or bool(waiting))


def one_a_time(taken: Iterable[Came], same_time: str) -> tuple[list[Came], list[Came]]:
    """One sample of each time of a metric, and those that it stands for, too.

    With FIRST nothing is done: what repeats a row's time is rejected later.  Counters' totals are not summed.
    """
    if same_time == FIRST:
        return list(taken), []
    kept: list[Came] = []
    merged = []
    for each in taken:
        before = kept[-1].sample if kept else None
        if before is None or (before.name, before.timestamp) != (each.sample.name, each.sample.timestamp):
            kept.append(each)
            continue
        merged.append(kept[-1])
        summed = same_time == SUM and before.kind == each.sample.kind == GAUGE
        value = before.value + each.sample.value if summed else each.sample.value
        kept[-1] = each._replace(sample=structs.replace(each.sample, value=value))
    return kept, merged


def _time_of(each: Waiting) -> int:
    return each.timestamp


def _cadences_of(conn: Connection, tails: Iterable[Tail], learnt: Mapping[str, Learnt]) -> dict[str, Cadence]:
    """Those of all these metrics: as they were learnt, or from the newest rows."""
    known = {}
    unknown = {}
    for tail in tails:
        remembered = learnt.get(tail.uid)
        cadence = None if remembered is None else remembered.at(tail)
        if cadence is not None:
            known[tail.uid] = cadence
        elif tail.last_rowid > LEARNT:
            unknown[tail.uid] = tail.last_rowid
        else:
            known[tail.uid] = Cadence()
    times = late_samples.newest_times(conn, unknown, LEARNT + 1)
    return known | {uid: cadence_of(each) for uid, each in times.items()}


def _held(conn: Connection, tails: Mapping[str, Tail]) -> defaultdict[str, list[Waiting]]:
    """Samples that wait, by the names of their metrics."""
    names = {tail.uid: tail.name for tail in tails.values()}
    found: defaultdict[str, list[Waiting]] = defaultdict(list)
    for each in late_samples.held_of(conn, names):
        name = names[each.uid]
        sample = Sample(name, each.value, each.timestamp, each.kind, each.started_at, each.moment)
        came = Came(sample, SampleBatch([sample.line]), 0)
        found[name].append(Waiting(came, each.timestamp, each.due_at, each.id))
    return found


def _to_hold(each: Waiting, tails: Mapping[str, Tail]) -> HeldSample:
    sample = each.came.sample
    uid = tails[sample.name].uid
    return HeldSample(uid, sample.timestamp, sample.value, sample.kind, sample.started_at, sample.moment, each.due_at)
