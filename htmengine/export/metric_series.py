# SPDX-License-Identifier: MIT
"""A metric's row as the series of Prometheus that it gives: their names, their labels, their figures.  Pure.

The name is the label ``metric``; the metric's own labels are beside it.  Used by the scrape route and by remote_write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from htmengine.labels import split
from htmengine.repository.newest import MetricRow
from htmengine.wires.samples import RESULT_PREFIX

NAME_LABEL = "metric"

_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")


class Family(NamedTuple):
    """One figure of every metric."""

    name: str
    help: str
    figure: Callable[[MetricRow], float | None]

    @property
    def full_name(self) -> str:
        """Its name in Prometheus."""
        return RESULT_PREFIX + self.name


VALUE = Family("value", "Newest value", lambda row: row.value)
TIMESTAMP = Family("timestamp_seconds", "Time of the newest value", lambda row: float(row.timestamp))
SCORE = Family("anomaly_score", "Anomaly score of the newest scored row", lambda row: row.anomaly_score)
BAND = (
    Family("expected", "Value that was expected of the newest scored row", lambda row: row.expected),
    Family("expected_lower", "Lower end of the band of usual values", lambda row: row.lower),
    Family("expected_upper", "Upper end of the band of usual values", lambda row: row.upper),
)


def alarm(alarming: set[str]) -> Family:
    """The metrics that have an alarm now, by their uids."""
    return Family("alarm", "1 while the metric is part of an open incident", lambda row: float(row.uid in alarming))


def labels_of(text: str, further: Mapping[str, str] | None = None) -> dict[str, str]:
    """A metric's labels; those that cannot be label names in Prometheus are changed.  ``further`` labels win.

    >>> labels_of("disk.used;fs.type=ext4;metric=x")
    {'metric': 'disk.used', 'fs_type': 'ext4', 'exported_metric': 'x'}
    """
    name, own = split(text)
    found = {NAME_LABEL: name, **(further or {})}
    for label, value in own.items():
        cleaned = _NOT_IN_LABELS.sub("_", label)
        cleaned = f"_{cleaned}" if cleaned[0].isdigit() else cleaned
        while cleaned in found:
            cleaned = f"exported_{cleaned}"
        found[cleaned] = value
    return found
