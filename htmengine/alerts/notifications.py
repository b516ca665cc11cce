# SPDX-License-Identifier: MIT
"""What a receiver is told, whatever its kind: the alert in words, its last values, a small plot.

Made by `htmengine.alerts.service`, kept as JSON in the table alert_delivery, and turned into requests
and mails by `htmengine.alerts.formats`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import quote
from xml.sax.saxutils import escape

from htmengine.labels import is_short

Status: TypeAlias = Literal["firing", "worse", "resolved", "test"]  #: worse: of incidents alone

#: Rows before and with the one that fired, for the plot.
RECENT_ROWS = 60
LABELS = "Labels"
#: What a message shows of labels that a metric's name has no room for; receivers of JSON get them all.
LABELS_CHARACTERS = 1000
_BARS = "▁▂▃▄▅▆▇█"
_PLOT_WIDTH, _PLOT_HEIGHT = 480, 120


@dataclass(frozen=True, slots=True)
class RecentRow:
    """A value before the alert, with its anomaly score if it had one."""

    timestamp: int
    value: float
    score: float | None


@dataclass(frozen=True, slots=True)
class Notification:
    """One message about one alert.  Times are epoch seconds."""

    alert_id: str  #: the same when it fires and when it is over
    status: Status
    rule: str
    metric: str
    uid: str
    threshold: float
    rowid: int  #: the row that fired, or that ended it
    timestamp: int
    value: float
    score: float
    started: int  #: timestamp of the row that fired
    reason: str = ""  #: why it is over
    created: float = 0.0  #: wall clock
    labels: tuple[tuple[str, str], ...] = ()
    metric_labels: tuple[tuple[str, str], ...] = ()  #: the metric's own
    link: str = ""  #: the metric's page
    recent: tuple[RecentRow, ...] = ()

    @property
    def id(self) -> str:
        """The alert's."""
        return self.alert_id

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.metric

    @property
    def identity(self) -> dict[str, str]:
        """What tells it from other alerts of its rule: labels for Alertmanager."""
        return {"metric": self.metric}

    @property
    def words(self) -> str:
        """What became of it."""
        return {"firing": "is anomalous", "resolved": "is back to normal"}.get(self.status, "(a test)")

    @property
    def summary(self) -> str:
        """One line."""
        return (
            f"{self.metric} {self.words}: value {self.value:g}, anomaly score {self.score:.6f} at {utc(self.timestamp)}"
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and values for a table."""
        return [
            ("Metric", self.metric),
            *labels_beside([self.metric], self.metric_labels),
            ("Value", f"{self.value:g}"),
            ("Anomaly score", f"{self.score:.6f} (threshold {self.threshold:g})"),
            ("Time", utc(self.timestamp)),
            ("Since", utc(self.started)),
            ("Rule", self.rule),
            *([("Why", self.reason)] if self.reason else []),
        ]

    @property
    def annotations(self) -> dict[str, str]:
        """For Alertmanager."""
        return {
            "summary": self.summary,
            "value": repr(self.value),
            "anomaly_score": repr(self.score),
            "time": utc(self.timestamp),
            "recent": self.sparkline,
            "alert_id": self.alert_id,
        }

    @property
    def sparkline(self) -> str:
        """The last values as a line of bars."""
        return sparkline([row.value for row in self.recent])

    def plot(self) -> str:
        """The last values as a picture."""
        return svg_plot(self.summary, self.recent, self.threshold)

    def to_json(self) -> str:
        """For the table alert_delivery."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Notification:
        """What `to_json` made, as an object of JSON."""
        return cls(**from_lists(fields))

    def public(self) -> dict[str, Any]:
        """For receivers: docs/alerts.md describes it."""
        return {
            "id": self.alert_id,
            "status": self.status,
            "summary": self.summary,
            "rule": self.rule,
            "labels": dict(self.labels),
            "metric_labels": dict(self.metric_labels),
            "metric": {"name": self.metric, "uid": self.uid},
            "rowid": self.rowid,
            "timestamp": self.timestamp,
            "time": utc(self.timestamp),
            "value": self.value,
            "anomaly_score": self.score,
            "threshold": self.threshold,
            "started": utc(self.started),
            "reason": self.reason,
            "link": self.link,
            "sparkline": self.sparkline,
            "recent": [
                {"timestamp": row.timestamp, "value": row.value, "anomaly_score": row.score} for row in self.recent
            ],
        }


def from_lists(fields: dict[str, Any]) -> dict[str, Any]:
    """A message's fields, whose labels and rows JSON has as lists; what an older message lacks is empty."""
    labels = {
        each: tuple((name, value) for name, value in fields.get(each, ())) for each in ("labels", "metric_labels")
    }
    return {**fields, **labels, "recent": tuple(RecentRow(**row) for row in fields["recent"])}


def labels_beside(names: Iterable[str], labels: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Labels as a fact, if some of the metrics' names are too short to show them all.

    >>> labels_beside(["cpu;~" + "a" * 32], [("dc", "x"), ("job", "api")]), labels_beside(["cpu;dc=x"], [("dc", "x")])
    ([('Labels', 'dc="x", job="api"')], [])
    """
    text = ", ".join(f'{name}="{value}"' for name, value in labels)
    if not text or not any(map(is_short, names)):
        return []
    return [(LABELS, text if len(text) <= LABELS_CHARACTERS else text[:LABELS_CHARACTERS] + "…")]


def utc(timestamp: float) -> str:
    """RFC 3339.

    >>> utc(1_400_000_000)
    '2014-05-13T16:53:20Z'
    """
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def metric_page(public_url: str, uid: str) -> str:
    """The dashboard's page of a metric.

    >>> metric_page("https://htm.example.com/", "0b5c")
    'https://htm.example.com/#/metrics/0b5c'
    """
    return f"{public_url.rstrip('/')}/#/metrics/{quote(uid, safe='')}" if public_url else ""


def sparkline(values: Sequence[float]) -> str:
    """Values as bars between their smallest and greatest.

    >>> sparkline([1, 2, 3, 8, 2])
    '▁▂▃█▂'
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BARS[min(int((value - low) / span * len(_BARS)), len(_BARS) - 1)] for value in values)


def svg_plot(title: str, rows: Sequence[RecentRow], threshold: float = 1.0) -> str:
    """The last values as a small picture; rows whose score reaches the threshold are marked."""
    points = _points([row.value for row in rows])
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#c62828"/>'
        for row, (x, y) in zip(rows, points, strict=True)
        if row.score is not None and row.score >= threshold
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_PLOT_WIDTH} {_PLOT_HEIGHT}" role="img">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{_PLOT_WIDTH}" height="{_PLOT_HEIGHT}" fill="#fff"/>'
        f'<polyline points="{line}" fill="none" stroke="#1565c0" stroke-width="1.5"/>{marks}</svg>\n'
    )


def _points(values: Sequence[float]) -> list[tuple[float, float]]:
    """Values as points of the picture, inside a margin."""
    margin = 8
    low, high = min(values, default=0.0), max(values, default=0.0)
    across = (_PLOT_WIDTH - 2 * margin) / max(len(values) - 1, 1)
    up = (_PLOT_HEIGHT - 2 * margin) / ((high - low) or 1.0)
    return [(margin + at * across, _PLOT_HEIGHT - margin - (value - low) * up) for at, value in enumerate(values)]
