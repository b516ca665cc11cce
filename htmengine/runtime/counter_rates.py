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
from htmengine.repository import counters
from htmengine.repository.counters import LastCount
from htmengine.repository.queries import Tail
from htmengine.wires import samples as wires
from htmengine.wires.counters import Last, advance

_KINDS = {COUNTER: wires.Kind.COUNTER, DELTA: wires.Kind.DELTA, UNKNOWN: wires.Kind.COUNTER}
#: How the ledger calls what a gauge's sample would be rejected for, too.
_REASONS = {"repeated": "timestamp_duplicate", "out_of_order": "timestamp_old"}


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
