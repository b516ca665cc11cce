# SPDX-License-Identifier: MIT
"""The taps that ``twistd`` offers; all of them are made in htmengine/taps.py."""

from twisted.application.service import ServiceMaker

engine = ServiceMaker("HTM Engine", "htmengine.taps.EMBEDDED", "All of HTM Engine in one process.", "htmengine")
listener = ServiceMaker(
    "HTM Engine listener", "htmengine.taps.LISTENER", "HTM Engine's Metric Listener.", "htmengine-listener"
)
storer = ServiceMaker("HTM Engine storer", "htmengine.taps.STORER", "HTM Engine's Metric Storer.", "htmengine-storer")
scheduler = ServiceMaker(
    "HTM Engine scheduler", "htmengine.taps.SCHEDULER", "HTM Engine's Model Scheduler.", "htmengine-scheduler"
)
anomaly = ServiceMaker(
    "HTM Engine anomaly", "htmengine.taps.ANOMALY", "HTM Engine's Anomaly Service.", "htmengine-anomaly"
)
web = ServiceMaker("HTM Engine web", "htmengine.taps.WEB", "HTM Engine's HTTP API and dashboard.", "htmengine-web")
alerts = ServiceMaker("HTM Engine alerts", "htmengine.taps.ALERTS", "HTM Engine's Alert Service.", "htmengine-alerts")
