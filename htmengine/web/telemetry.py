# SPDX-License-Identifier: MIT
"""``/metrics``, ``/healthz`` and ``/readyz``: on the web service's port, or on one of a process's own.

In: requests.  Out: `Telemetry`'s page for Prometheus, and `Health`'s reports, with status 200 or 503.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from htmengine.process.descriptors import PausingFactory
from htmengine.process.twisted_types import Reactor, listen
from htmengine.telemetry.health import Health, Report
from htmengine.web.access import Access, AccessRules
from htmengine.web.http import Call, Reply
from htmengine.web.routes import Routes
from htmengine.web.site import BoundedSite

ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class TelemetryRoutes:
    """What a process tells about itself."""

    page: Callable[[], Awaitable[bytes]]  #: in Prometheus's text format
    health: Health

    def add_to(self, routes: Routes) -> None:
        """Everybody may ask for health, which tells nothing of metrics."""
        routes.add(["GET"], "/metrics", "read", self.metrics)
        routes.add(["GET"], "/healthz", None, self.healthz)
        routes.add(["GET"], "/readyz", None, self.readyz)

    async def metrics(self, _call: Call) -> Reply:
        """For Prometheus."""
        return Reply(await self.page(), CONTENT_TYPE_LATEST)

    async def healthz(self, _call: Call) -> Reply:
        """Whether the process has to be started again."""
        return _reply(await self.health.aliveness())

    async def readyz(self, _call: Call) -> Reply:
        """Whether it can do its work now."""
        return _reply(await self.health.readiness())


def _reply(report: Report) -> Reply:
    return Reply(json.dumps(report.to_json()).encode(), status=200 if report.ok else 503)


class TelemetryEndpoint(Service):
    """A port of its own, for processes without a web service."""

    log = Logger()

    def __init__(self, *, reactor: Reactor, port: int, access: AccessRules, routes: TelemetryRoutes) -> None:
        access.check_start()
        self._reactor = reactor
        self._wanted_port = port
        self._host = access.host
        self._routes = Routes(Access(access, reactor.seconds), reactor, ANSWER_WITHIN_S)
        routes.add_to(self._routes)
        self._port: Any = None

    def privilegedStartService(self) -> None:
        """Bind the port.  Raises `StartError` when it is taken."""
        super().privilegedStartService()
        site = BoundedSite(self._routes.resource, self._reactor)
        accepting = PausingFactory(site, self._reactor, what="the port of metrics and health")
        accepting.port = self._port = listen(
            lambda: self._reactor.listenTCP(self._wanted_port, accepting, interface=self._host),
            f"{self._host}:{self._wanted_port}",
            "choose another one with [telemetry] of application.conf",
        )
        self.log.info("metrics and health: http://{host}:{port}/", host=self._host, port=self._wanted_port)

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        stopped: Deferred[None] | None = self._port and self._port.stopListening()
        return stopped
