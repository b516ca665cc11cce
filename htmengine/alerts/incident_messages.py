# SPDX-License-Identifier: MIT
"""What a receiver learns of an incident, whatever the receiver's kind: title, since when, its metrics, the reasons.

Made by the Alert Service for rules with a budget, kept as JSON in the table alert_delivery beside the notifications of
single metrics, and turned into requests and mails by `htmengine.alerts.formats`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from htmengine.alerts.notifications import (
    Notification,
    RecentRow,
    Status,
    from_lists,
    labels_beside,
    sparkline,
    svg_plot,
    utc,
)

#: Members that a message shows.
SHOWN_MEMBERS = 5


@dataclass(frozen=True, slots=True)
class MovedMetric:
    """A metric of an incident, with the row that raised its first alarm.  None: nothing is known of it."""

    name: str
    uid: str
    timestamp: int
    height: float
    text: str  #: what the evidence says
    direction: str | None
    value: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    link: str = ""
    labels: tuple[tuple[str, str], ...] = ()  #: the metric's own

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> MovedMetric:
        """An object of JSON; what an older message lacks is empty."""
        return cls(**{**fields, "labels": tuple((name, value) for name, value in fields.get("labels", ()))})

    @property
    def sentence(self) -> str:
        """The metric, its value beside the expected one, and the reason."""
        return f"{self.name}: {self.facts}{self.text}"

    @property
    def facts(self) -> str:
        """Value, expected value and band, as far as they are known."""
        return beside_expected(self.value, self.expected, self.lower, self.upper)


def beside_expected(value: float | None, expected: float | None, lower: float | None, upper: float | None) -> str:
    """A value, the expected one and its band, as far as they are known, as the beginning of a sentence.

    >>> beside_expected(9.0, 2.0, 1.0, 3.0), beside_expected(None, None, None, None)
    ('value 9, expected 2 (1 to 3); ', '')
    """
    if value is None:
        return ""
    if expected is None:
        return f"value {value:g}; "
    return f"value {value:g}, expected {expected:g} ({lower:g} to {upper:g}); "


@dataclass(frozen=True, slots=True)
class IncidentMessage:
    """One message about an incident.  Times are epoch seconds, of the rows but for ``created``."""

    id: str  #: the incident's
    status: Status
    rule: str
    title: str
    started: int
    timestamp: int  #: of the newest row that joined
    members: int
    height: float
    threshold: float | None
    moved: tuple[MovedMetric, ...]  #: candidates for the root, the likeliest first
    reason: str = ""  #: why it is over, or matters more
    created: float = 0.0
    labels: tuple[tuple[str, str], ...] = ()
    metric_labels: tuple[tuple[str, str], ...] = ()  #: that all its metrics had when it was told first
    link: str = ""  #: the incident's page
    recent: tuple[RecentRow, ...] = ()  #: of the likeliest root

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.title

    @property
    def identity(self) -> dict[str, str]:
        """What tells it from other incidents of its rule: labels for Alertmanager."""
        return {"incident": self.id}

    @property
    def words(self) -> str:
        """What became of it."""
        return {
            "firing": "an incident has begun",
            "worse": "the incident matters more now",
            "resolved": "the incident is over",
            "test": "(a test)",
        }[self.status]

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.title}: {self.words}, {_metrics(self.members)} since {utc(self.started)}"

    @property
    def sparkline(self) -> str:
        """The last values of the likeliest root as a line of bars."""
        return sparkline([row.value for row in self.recent])

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and values for a table."""
        return [
            ("Incident", self.id),
            ("Since", utc(self.started)),
            ("Metrics", str(self.members)),
            *labels_beside((each.name for each in self.moved), self.metric_labels),
            ("Height", f"{self.height:.1f}" + ("" if self.threshold is None else f" (threshold {self.threshold:.1f})")),
            ("Rule", self.rule),
            *([("Why", self.reason)] if self.reason else []),
            *(("Moved" if place == 0 else "", each.sentence) for place, each in enumerate(self.moved)),
        ]

    @property
    def annotations(self) -> dict[str, str]:
        """For Alertmanager."""
        return {
            "summary": self.summary,
            "metrics": str(self.members),
            "height": f"{self.height:.2f}",
            "moved": "\n".join(each.sentence for each in self.moved),
            "recent": self.sparkline,
            "incident_id": self.id,
        }

    def plot(self) -> str:
        """The same as a picture."""
        return svg_plot(self.summary, self.recent)

    def to_json(self) -> str:
        """For the table alert_delivery."""
        return json.dumps({"type": "incident", **dataclasses.asdict(self)})

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> IncidentMessage:
        """What `to_json` made, as an object of JSON without its type."""
        moved = tuple(map(MovedMetric.from_fields, fields["moved"]))
        return cls(**{**from_lists(fields), "moved": moved})

    def public(self) -> dict[str, Any]:
        """For receivers: docs/alerts.md describes it."""
        return {
            "id": self.id,
            "type": "incident",
            "status": self.status,
            "summary": self.summary,
            "title": self.title,
            "rule": self.rule,
            "labels": dict(self.labels),
            "metric_labels": dict(self.metric_labels),
            "started": utc(self.started),
            "timestamp": self.timestamp,
            "time": utc(self.timestamp),
            "metrics": self.members,
            "height": self.height,
            "threshold": self.threshold,
            "moved": [_public_metric(each) for each in self.moved],
            "reason": self.reason,
            "link": self.link,
            "sparkline": self.sparkline,
            "recent": [
                {"timestamp": row.timestamp, "value": row.value, "anomaly_score": row.score} for row in self.recent
            ],
        }


Message: TypeAlias = Notification | IncidentMessage


def message_from_json(text: str) -> Message:
    """What is in the table alert_delivery."""
    fields = json.loads(text)
    if fields.pop("type", None) == "incident":
        return IncidentMessage.from_fields(fields)
    return Notification.from_fields(fields)


def incident_page(public_url: str, incident_id: str) -> str:
    """The dashboard's page of an incident.

    >>> incident_page("https://htm.example.com/", "0b5c")
    'https://htm.example.com/#/incidents/0b5c'
    """
    return f"{public_url.rstrip('/')}/#/incidents/{incident_id}" if public_url else ""


def _metrics(count: int) -> str:
    return "1 metric" if count == 1 else f"{count} metrics"


def _public_metric(each: MovedMetric) -> dict[str, Any]:
    return {
        "metric": {"name": each.name, "uid": each.uid},
        "metric_labels": dict(each.labels),
        "timestamp": each.timestamp,
        "time": utc(each.timestamp),
        "height": each.height,
        "reason": each.text,
        "direction": each.direction,
        "value": each.value,
        "expected": each.expected,
        "lower": each.lower,
        "upper": each.upper,
        "link": each.link,
    }
