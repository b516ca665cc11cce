# SPDX-License-Identifier: MIT
"""The taps that ``twistd`` offers; all of them are made in htmengine/services.py."""

from twisted.application.service import ServiceMaker

engine = ServiceMaker("HTM Engine", "htmengine.services.EMBEDDED", "All of HTM Engine in one process.", "htmengine")
listener = ServiceMaker(
    "HTM Engine listener", "htmengine.services.LISTENER", "HTM Engine's Metric Listener.", "htmengine-listener"
)
storer = ServiceMaker(
    "HTM Engine storer", "htmengine.services.STORER", "HTM Engine's Metric Storer.", "htmengine-storer"
)
scheduler = ServiceMaker(
    "HTM Engine scheduler", "htmengine.services.SCHEDULER", "HTM Engine's Model Scheduler.", "htmengine-scheduler"
)
anomaly = ServiceMaker(
    "HTM Engine anomaly", "htmengine.services.ANOMALY", "HTM Engine's Anomaly Service.", "htmengine-anomaly"
)
web = ServiceMaker("HTM Engine web", "htmengine.services.WEB", "HTM Engine's HTTP API and dashboard.", "htmengine-web")
alerts = ServiceMaker(
    "HTM Engine alerts", "htmengine.services.ALERTS", "HTM Engine's Alert Service.", "htmengine-alerts"
)
