# SPDX-License-Identifier: MIT
"""What every wire ends in: samples, and counts of what did not become one.

In: what a protocol's module has read.  Out: a `Received`, which the services put into the samples queue and the ledger.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from htmengine import labels
from htmengine.errors import InvalidBody, InvalidSample
from htmengine.labels import shown
from htmengine.messages.samples import MAX_TIMESTAMP

#: What one request or frame may hold, so that none keeps the engine from its other work; senders' batches are smaller.
MAX_SAMPLES = 50_000
#: The same of smaller things: labels, fields, objects of JSON.
MAX_PARTS = 500_000

#: A frame is read in parts of so many samples: between them the engine does its other work.
PART_SAMPLES = 1000

#: What the series of an engine's results begin with, and what they are: `htmengine.export` writes them.
RESULT_PREFIX = "htmengine_metric_"
RESULT_NAMES = frozenset(
    RESULT_PREFIX + figure
    for figure in (
        "value",
        "timestamp_seconds",
        "anomaly_score",
        "expected",
        "expected_lower",
        "expected_upper",
        "alarm",
    )
)

#: The longest double without an exponent, with room to spare.
MAX_NUMBER_CHARACTERS = 400


class Kind(Enum):
    """What a value is; `counters` makes rates of all but the first."""

    GAUGE = "gauge"
    COUNTER = "counter"  #: the total since the sender started, which falls only when it starts again
    DELTA = "delta"  #: what was added since the sample before
    UNKNOWN = "unknown"  #: nobody says: a counter if the metric is one already, else a gauge


class Sample(NamedTuple):
    """One value of one metric.  Its name is the text of `labels`; times are epoch seconds, UTC."""

    name: str
    value: float
    timestamp: float
    kind: Kind = Kind.GAUGE
    started_at: float = 0.0  #: since when a counter or delta counts; 0 when the sender does not say


def second(timestamp: float) -> int | float:
    """A time as lines have it: rows have the second alone, and a counter's rate is made with its fraction.

    >>> second(60.0), second(60.25)
    (60, 60.25)
    """
    return int(timestamp) if timestamp.is_integer() else timestamp


class Received:
    """What came in at once.

    >>> received = Received()
    >>> received.add("cpu", 0.5, 1400000000.0)
    >>> received.add("cpu", float("nan"), 1400000000.0)
    >>> len(received.samples), dict(received.rejected)
    (1, {'value_not_finite': 1})
    """

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.rejected: Counter[str] = Counter()  #: the sender's faults, by reason
        self.left_out: Counter[str] = Counter()  #: what is valid but no number to be scored, by reason
        self.details: dict[str, str] = {}  #: what the first reject of each reason was

    def add(self, name: str, value: float, timestamp: float, kind: Kind = Kind.GAUGE, started_at: float = 0.0) -> None:
        """Take a sample if its value and timestamp can be taken; otherwise count a reject."""
        if not math.isfinite(value):
            self.reject("value_not_finite", f"{shown(name)}: value {value!r}; only finite numbers are allowed")
        elif not 0 <= timestamp <= MAX_TIMESTAMP:
            self.reject(
                "timestamp_out_of_range",
                f"{shown(name)}: timestamp {timestamp!r}; epoch seconds up to {MAX_TIMESTAMP} are allowed",
            )
        else:
            self.samples.append(Sample(name, value, timestamp, kind, started_at))

    def leave_out_results(self) -> None:
        """Without the results of an engine: a Prometheus that has them and sends all it has would make metrics of them,
        these would have results, and so on without end.

        >>> received = Received()
        >>> received.add("htmengine_metric_alarm;metric=cpu", 0.0, 1400000000.0)
        >>> received.leave_out_results()
        >>> received.samples, dict(received.left_out)
        ([], {'own_result': 1})
        """
        kept = [sample for sample in self.samples if not _is_result(sample.name)]
        if len(kept) < len(self.samples):
            self.left_out["own_result"] += len(self.samples) - len(kept)
            self.samples = kept

    @property
    def not_taken(self) -> Counter[str]:
        """All that did not become a sample, by reason: the ledger counts it."""
        return self.rejected + self.left_out

    def name(self, name: str, tags: dict[str, str]) -> str | None:
        """The text of a metric, or None if it cannot be named, which is counted as one reject."""
        try:
            return labels.compose(name, tags)
        except InvalidSample as bad:
            self.refuse(bad)
            return None

    def refuse(self, bad: InvalidSample) -> None:
        """Count a reject that has been raised."""
        self.reject(bad.reason, bad.detail)

    def reject(self, reason: str, detail: str, count: int = 1) -> None:
        """Count rejects; the detail of a reason's first is kept."""
        self.rejected[reason] += count
        self.details.setdefault(reason, detail)

    def error(self) -> str:
        """One line that tells of all rejects; empty when there are none."""
        return "; ".join(f"{reason} ({count}): {self.details[reason]}" for reason, count in self.rejected.items())


def _is_result(text: str) -> bool:
    return text.startswith(RESULT_PREFIX) and text.partition(";")[0] in RESULT_NAMES


def joined(parts: Iterable[Received]) -> Received:
    """What came in parts, as a whole."""
    whole = Received()
    for part in parts:
        whole.samples += part.samples
        whole.rejected += part.rejected
        whole.left_out += part.left_out
        whole.details = {**part.details, **whole.details}
    return whole


def bound(count: int, most: int = MAX_SAMPLES) -> None:
    """Refuse a request or frame that holds too much; raises `InvalidBody`."""
    if count > most:
        raise InvalidBody("too_many_samples", f"{count} samples, series or parts of them at once; {most} are allowed")


def number(value: object) -> float:
    """A number or its text as a float, which may be infinite or NaN; anything else raises `InvalidSample`."""
    try:
        if isinstance(value, str):
            if len(value) <= MAX_NUMBER_CHARACTERS and "_" not in value:  # digit grouping is Python's own
                return float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    text = value if isinstance(value, str) else type(value).__name__
    raise InvalidSample("value_not_a_number", f"{shown(text)} is not a number that can be taken")
