# SPDX-License-Identifier: MIT
"""An alert's messages, for the tests of what becomes of them."""

from __future__ import annotations

from dataclasses import replace

from htmengine.alerts.incident_messages import IncidentMessage, MovedMetric
from htmengine.alerts.notifications import Notification, RecentRow

FIRING = Notification(
    alert_id="0d7f",
    status="firing",
    rule="load",
    metric="web.cpu",
    uid="u1",
    threshold=0.999,
    rowid=3,
    timestamp=1_400_000_120,
    value=97.5,
    score=0.99999,
    started=1_400_000_120,
    created=1_400_000_130.0,
    labels=(("severity", "page"),),
    link="http://127.0.0.1:8080/#/metrics/u1",
    recent=(
        RecentRow(1_400_000_000, 10.0, None),
        RecentRow(1_400_000_060, 20.0, 0.5),
        RecentRow(1_400_000_120, 97.5, 0.99999),
    ),
)
RESOLVED = replace(FIRING, status="resolved", timestamp=1_400_003_800, value=11.0, score=0.5, reason="calm again")
INCIDENT = IncidentMessage(
    id="0d9b",
    status="firing",
    rule="all",
    title="db1.* and 1 more",
    started=1_400_000_000,
    timestamp=1_400_000_120,
    members=3,
    height=6.0,
    threshold=4.0,
    moved=(
        MovedMetric("db1.load", "u1", 1_400_000_000, 6.0, "the highest in 9 weeks", "up", 97.5, 12.0, 9.5, 14.5),
        MovedMetric("db1.up", "u2", 1_400_000_060, 7.0, "no samples for 12 minutes", None, None, None, None, None),
    ),
    created=1_400_000_130.0,
    labels=(("severity", "high"),),
    link="http://127.0.0.1:8080/#/incidents/0d9b",
    recent=FIRING.recent,
)
