# SPDX-License-Identifier: MIT
"""Counters and deltas become rates where their samples are stored: once, in the order of their times, durably.

In: samples in the order in which they came.  Out: the same with a rate a second in place of each counter's total.  The
first sample of a counter, and the first after it started again, have none: the reason stands in their place.  The
state is stored in the transaction that stores the rows; `wires.counters` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs
from sqlalchemy import Connection

from htmengine.messages import COUNTER, DELTA, GAUGE, UNKNOWN, Sample
from htmengine.repository import counters, queries
from htmengine.repository.counters import LastCount
from htmengine.repository.queries import MetricStatus, Tail
from htmengine.wires import samples as wires
from htmengine.wires.counters import Last, advance

#: Metrics of these statuses have no model, and perhaps never had one.
BEFORE_MODELS = (MetricStatus.UNMONITORED, MetricStatus.PENDING_DATA, MetricStatus.CONSTANT)
#: Rows of totals that a metric may have before its sender says that it is a counter: two minutes of a row a second.
MOST_UNTOLD = 120
_KINDS = {COUNTER: wires.Kind.COUNTER, DELTA: wires.Kind.DELTA, UNKNOWN: wires.Kind.COUNTER}
#: How the ledger calls what a gauge's sample would be rejected for, too.
_REASONS = {"repeated": "timestamp_duplicate", "out_of_order": "timestamp_old"}


def without_totals(conn: Connection, samples: Sequence[Sample], tails: Mapping[str, Tail]) -> dict[str, Tail]:
    """The metrics that turn out to be counters, by name, as they were: their few rows, which are totals, are removed.

    Prometheus tells types once a minute, so the first minute of a counter whose name does not say so comes as a
    gauge's.  Metrics with a model, or with more rows, keep what they have.
    """
    told = {sample.name for sample in samples if sample.kind == COUNTER}
    young = {
        tails[name].uid: tails[name]
        for name in told
        if 0 < tails[name].last_rowid <= MOST_UNTOLD and tails[name].status in BEFORE_MODELS
    }
    known = counters.last_counts(conn, young.keys()) if young else {}
    found = {tail.name: tail for uid, tail in young.items() if uid not in known}
    for tail in found.values():
        queries.remove_rows(conn, tail.uid)
    return found


def rates_of(conn: Connection, samples: Sequence[Sample], tails: Mapping[str, Tail]) -> list[Sample | str]:
    """For each sample the one to be stored, or the reason why it has no rate."""
    uids = {tails[sample.name].uid for sample in samples if sample.kind != GAUGE}
    if not uids:
        return list(samples)
    known = {uid: Last(*last) for uid, last in counters.last_counts(conn, uids).items()}
    changed: dict[str, LastCount] = {}
    found: list[Sample | str] = []
    for sample in samples:
        if sample.kind == GAUGE:
            found.append(sample)
            continue
        uid = tails[sample.name].uid
        if sample.kind == UNKNOWN and uid not in known:
            found.append(structs.replace(sample, kind=GAUGE))
            continue
        step = advance(known.get(uid), _wired(sample))
        known[uid], changed[uid] = step.last, LastCount(*step.last)
        if step.rate is None:
            found.append(_REASONS.get(str(step.reason), str(step.reason)))
        else:
            found.append(structs.replace(sample, value=step.rate, kind=GAUGE))
    counters.save_counts(conn, changed)
    return found


def _wired(sample: Sample) -> wires.Sample:
    return wires.Sample(sample.name, sample.value, sample.moment, _KINDS[sample.kind], sample.started_at)
