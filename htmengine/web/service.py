# SPDX-License-Identifier: MIT
"""The web service: listens for HTTP, and puts together what answers.

In: requests.  Out: what the database knows, and changes by way of `Operations`.  Other parts add what they serve with
`WebService.routes` before the start: ``service.routes.mount("/healthz", None, resource)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from htmengine.alerts.configuration import NO_ALERTS, AlertConfig
from htmengine.errors import StartError
from htmengine.operations import Operations
from htmengine.process.descriptors import PausingFactory
from htmengine.process.extras import TLS, required
from htmengine.process.figures import Figure, counter, gauge
from htmengine.process.probes import Probe, runs
from htmengine.process.reject_log import RejectLog
from htmengine.process.twisted_types import Reactor, for_twisted, listen
from htmengine.repository.engine import Database
from htmengine.web.access import Access, AccessRules
from htmengine.web.api import Api
from htmengine.web.document import Document
from htmengine.web.events import EventFeed
from htmengine.web.federation import Federation
from htmengine.web.graphite.routes import Graphite
from htmengine.web.incidents import IncidentsApi
from htmengine.web.maintenance import MaintenanceApi
from htmengine.web.peers import Peers
from htmengine.web.previews import Previews
from htmengine.web.reader import Reader
from htmengine.web.routes import Routes
from htmengine.web.rules import RulesApi
from htmengine.web.site import BoundedSite
from htmengine.web.skeleton import Page, Skeleton
from htmengine.web.wires import Wires
from htmengine.wires.otlp import OtlpOptions
from htmengine.wires.plugins import Wire


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Section [web] of application.conf, and what the API shows of others."""

    port: int = 8080  #: 0: any free one
    access: AccessRules = field(default_factory=AccessRules)
    alerts: AlertConfig = NO_ALERTS
    tls_certificate: Path | None = None  #: PEM, certificate and key
    answer_within_s: float = 30.0
    queues: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: by stage, for the status
    anomaly_floor: float = 0.99
    trusted_proxies: Sequence[str] = ()  #: addresses
    peers: Sequence[str] = ()  #: addresses of the engine's other processes, for the health page
    wires: Mapping[str, Wire] = field(default_factory=dict)  #: those of other packages, by name
    otlp: OtlpOptions | None = None
    graphite: Callable[[], tuple[str, int]] = lambda: ("", 0)  #: host and port of the listener; port 0: not known


class WebService(Service):
    """Listens on one port; `url` is where.  Closes its database when it stops."""

    log = Logger()

    def __init__(self, *, reactor: Reactor, operations: Operations, database: Database, options: WebOptions) -> None:
        options.access.check_start()
        self._reactor = reactor
        self._database = database
        self._options = options
        self._port: Any = None
        self.url = ""
        access = Access(options.access, reactor.seconds)
        self.reader = Reader(database)
        self.feed = EventFeed(self.reader, reactor)
        self.routes = Routes(access, reactor, options.answer_within_s)
        document = Document()
        api = Api(
            operations=operations,
            reader=self.reader,
            feed=self.feed,
            access=access,
            reactor=reactor,
            document=document,
            started=reactor.seconds(),
            queues=options.queues,
            incidents=IncidentsApi(operations, self.reader, reactor, document),
            rules=RulesApi(operations.database, self.reader, reactor, document, options.alerts, Previews(self.reader)),
            maintenance=MaintenanceApi(operations.database, self.reader, reactor, document, options.alerts),
            graphite=options.graphite,
            peers=Peers(reactor, options.peers, options.access.read_token),
            anomaly_floor=options.anomaly_floor,
            trusted_proxies=frozenset(options.trusted_proxies),
            reject_log=RejectLog(reactor.seconds),
            secure=options.tls_certificate is not None,
        )
        api.add_to(self.routes)
        Graphite(self.reader, reactor).add_to(self.routes)
        Federation(self.reader, reactor).add_to(self.routes)
        Wires(operations, reactor, options.wires, options.otlp).add_to(self.routes)
        Page().add_to(self.routes)
        Skeleton(api).add_to(self.routes)
        self.site: Any = BoundedSite(self.routes.resource, reactor)

    def privilegedStartService(self) -> None:
        """Bind the port.  Raises `StartError` when it is taken."""
        super().privilegedStartService()
        host = self._options.access.host
        accepting = PausingFactory(self._accepting(), self._reactor, what="the HTTP port")
        accepting.port = self._port = listen(
            lambda: self._reactor.listenTCP(self._options.port, accepting, interface=host),
            f"{host}:{self._options.port}",
            "choose another one with --http-port or [web] port",
        )
        scheme = "https" if self._options.tls_certificate else "http"
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{shown}:{self._port.getHost().port}/"
        self.log.info("dashboard and API: {url}", url=self.url)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._port is not None:
            await self._port.stopListening()
        self.feed.stop()
        self._database.close()

    def figures(self) -> Iterable[Figure]:
        """What was answered."""
        yield counter("htmengine_web_answers", "HTTP requests that were answered", self.routes.answered)
        yield counter("htmengine_web_refusals", "HTTP requests that were refused", self.routes.refused)
        yield counter("htmengine_web_refused_connections", "Clients beyond the limit", self.site.refusals.count)
        yield gauge("htmengine_web_event_clients", "Clients of server-sent events", self.feed.clients)

    def checks(self) -> Mapping[str, Probe]:
        """Whether it answers."""
        return {"WebService": runs(self)}

    def _accepting(self) -> Any:
        """What makes connections; TLS is next to the site, which tells it the protocols that it speaks."""
        if self._options.tls_certificate is None:
            return self.site
        tls = tls_options(self._options.tls_certificate)
        from twisted.protocols.tls import TLSMemoryBIOFactory

        return TLSMemoryBIOFactory(tls, False, self.site, for_twisted(self._reactor))


def tls_options(certificate: Path) -> Any:
    """What `[web] tls_certificate` names, for Twisted.  Raises `StartError`."""
    option = "[web] tls_certificate"
    ssl, crypto = required(option, TLS, "tls"), required(option, "OpenSSL.crypto", "tls")
    try:
        return ssl.PrivateCertificate.loadPEM(certificate.read_bytes()).options()
    except (OSError, crypto.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a certificate and its key in PEM"
        raise StartError(f"{option} {certificate}: {reason}") from None
