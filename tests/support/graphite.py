# SPDX-License-Identifier: MIT
"""The Graphite routes over a database, asked without a network and without threads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlencode

from sqlalchemy import update
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.repository import queries
from htmengine.repository.engine import Database
from htmengine.repository.schema import metric as metric_table
from htmengine.web.access import Access, AccessRules
from htmengine.web.graphite.routes import Graphite
from htmengine.web.reader import Reader
from htmengine.web.routes import Routes
from htmengine.web.site import BoundedSite
from tests.support.database import InlineDatabase, new_database

Parameters = Mapping[str, str | Sequence[str]]
#: When the tests ask; rows come before it.
NOW = 1_400_000_400
STEP = 60


class GraphiteTestCase(SynchronousTestCase):
    """`store` what there is, then `ask`."""

    def setUp(self) -> None:
        self.database = new_database(self)
        self.reactor = MemoryReactorClock()
        self.reactor.advance(NOW)
        self.inline = cast(Database, InlineDatabase(self.database))
        self.routes = Routes(Access(AccessRules(), self.reactor.seconds), self.reactor, 30.0)
        Graphite(Reader(self.inline), self.reactor).add_to(self.routes)
        self.site = BoundedSite(self.routes.resource, self.reactor)

    def store(self, name: str, *values: float) -> None:
        """A metric whose newest row is a minute old."""
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=10), 288)
        start = NOW - STEP * len(values)
        rows = [(metric.uid, number + 1, start + STEP * number, value) for number, value in enumerate(values)]
        self.database.run_sync(queries.insert_samples, rows)
        newest = update(metric_table).where(metric_table.c.uid == metric.uid).values(last_rowid=len(rows))
        self.database.run_sync(lambda conn: conn.execute(newest))

    def ask(self, path: str, parameters: Parameters | None = None, query: str = "") -> tuple[int, bytes]:
        """Status and body of a GET."""
        protocol, transport = self.site.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        query = query or urlencode(parameters or {}, doseq=True)
        protocol.dataReceived(f"GET {path}?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, _, body = bytes(transport.value()).partition(b"\r\n\r\n")
        protocol.connectionLost(Failure(ConnectionError()))
        return int(head.split()[1]), body

    def json(self, path: str, **parameters: str | Sequence[str]) -> Any:
        """What a request that is answered is answered with."""
        status, body = self.ask(path, parameters)
        self.assertEqual(status, 200, body)
        return json.loads(body)
