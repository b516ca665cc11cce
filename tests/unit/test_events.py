# SPDX-License-Identifier: MIT
"""Event streams: in order, once each, and bounded when a client does not read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.messages import ScoredRow
from htmengine.repository import queries, results
from htmengine.repository.engine import Database
from htmengine.repository.queries import Score
from htmengine.repository.results import Result
from htmengine.web import events
from htmengine.web.access import Access, AccessRules
from htmengine.web.events import HEARTBEAT_S, POLL_S, STALLED_S, EventFeed, Filter
from htmengine.web.http import Call, Stream
from htmengine.web.refused import Refused
from htmengine.web.routes import Routes
from htmengine.web.site import BoundedSite
from htmengine.web.views import result_json
from tests.support.database import new_database


class Connection:
    """What a client has received, and whether it reads."""

    def __init__(self) -> None:
        self.received = b""
        self.channel = self  #: None when it has gone
        self.producer: Any = None
        self.full_at: int | None = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.received += data
        if self.full_at is not None and len(self.received) >= self.full_at:
            self.producer.pauseProducing()

    def read_on(self) -> None:
        self.full_at = None
        self.producer.resumeProducing()

    @property
    def rowids(self) -> list[int]:
        return [event["rowid"] for event in self.events("result")]

    def events(self, kind: str) -> list[dict[str, Any]]:
        blocks = [block.split("\n") for block in self.received.decode().split("\n\n")]
        return [json.loads(block[-1].removeprefix("data: ")) for block in blocks if f"event: {kind}" in block]


class InlineReader:
    """A reader that is done at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self._database.run_sync(fn, *args)


class EventsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.clock = Clock()
        self.feed = EventFeed(InlineReader(self.database), self.clock)
        self.rows = 0
        self.metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 288)

    def tearDown(self) -> None:
        self.feed.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.feed.clients, 0)

    def score(self, rows: int, score: float = 0.5) -> None:
        """That many new rows, stored and scored in one transaction."""
        numbers = range(self.rows + 1, self.rows + rows + 1)
        self.rows += rows
        uid = self.metric.uid
        self.database.run_sync(queries.insert_samples, [(uid, n, 60 * n, float(n)) for n in numbers])
        self.database.run_sync(queries.save_scores, [Score(uid, n, 60 * n, float(n), 0.1, score, 0.0) for n in numbers])
        scored = [(uid, ScoredRow(n, 60 * n, float(n), 0.1, score)) for n in numbers]
        self.database.run_sync(results.append_log, scored)

    def connect(self, wanted: Filter | None = None, last_event_id: int | None = None) -> Connection:
        connection = Connection()
        served = Deferred.fromCoroutine(self.feed.serve(connection, wanted or Filter(), last_event_id))
        self.addCleanup(self.successResultOf, served)
        self.addCleanup(self.feed.stop)
        return connection


class FeedTest(EventsTestCase):
    def test_a_new_client_gets_what_comes_from_now_on(self) -> None:
        self.score(3)
        client = self.connect()
        self.score(2)
        self.clock.advance(POLL_S)
        self.assertEqual(client.rowids, [4, 5])
        self.assertIn(b"id: 4\nevent: result\n", client.received)

    def test_a_client_that_comes_back_gets_what_it_missed_once_and_in_order(self) -> None:
        other = self.connect()
        self.score(5)
        self.clock.advance(POLL_S)
        client = self.connect(last_event_id=2)
        self.score(2)
        self.clock.advance(POLL_S)
        self.assertEqual(client.rowids, [3, 4, 5, 6, 7])
        self.assertEqual(other.rowids, [1, 2, 3, 4, 5, 6, 7])

    def test_an_id_of_another_database_is_no_harm(self) -> None:
        self.score(2)
        client = self.connect(last_event_id=999)
        self.score(1)
        self.clock.advance(POLL_S)
        self.assertEqual(client.rowids, [3])

    def test_what_is_too_far_back_is_told(self) -> None:
        self.patch(events, "RESUMED", 3)
        self.score(10)
        client = self.connect(last_event_id=1)
        self.assertEqual(client.events("skipped"), [{"results": 6, "reason": "too_old"}])
        self.assertEqual(client.rowids, [8, 9, 10])

    def test_a_reader_that_cannot_keep_up_jumps_and_tells(self) -> None:
        self.patch(events, "MOST_BEHIND", 5)
        self.patch(events, "READ_AT_ONCE", 2)
        client = self.connect()
        self.score(10)
        self.clock.advance(POLL_S)
        self.assertEqual(client.events("skipped"), [{"results": 8, "reason": "too_old"}])
        self.assertEqual(client.rowids, [9, 10])

    def test_filters(self) -> None:
        quiet = self.connect(Filter.of(["other", "n*"]))
        great = self.connect(Filter.of(["m"], threshold=0.9))
        self.score(1, 0.5)
        self.score(1, 0.95)
        self.clock.advance(POLL_S)
        self.assertEqual((quiet.rowids, great.rowids), ([], [2]))

    def test_heartbeats_carry_how_far_the_results_are(self) -> None:
        client = self.connect(Filter.of(["other"]))
        self.score(4)
        self.clock.pump([POLL_S] * int(HEARTBEAT_S / POLL_S))
        self.assertTrue(client.received.endswith(b": heartbeat\nid: 4\n\n"))

    def test_nothing_is_read_while_nobody_listens(self) -> None:
        client = self.connect()
        client.producer.stopProducing()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_result_is_encoded_once_for_all_clients_and_not_at_all_if_none_wants_it(self) -> None:
        shown: list[int] = []

        def noted(result: Result) -> dict[str, Any]:
            shown.append(result.rowid)
            return result_json(result)

        self.patch(events, "result_json", noted)
        clients = [self.connect(Filter(threshold=0.9)) for _ in range(3)]
        self.score(1, 0.5)
        self.score(1, 0.95)
        self.clock.advance(POLL_S)
        self.assertEqual((shown, [client.rowids for client in clients]), ([2], [[2]] * 3))

    def test_a_result_that_cannot_be_shown_is_left_out(self) -> None:
        def failing(result: Result) -> dict[str, Any]:
            return {"rowid": result.rowid, "ratio": 1 / (result.rowid - 2)}

        self.patch(events, "result_json", failing)
        clients = [self.connect() for _ in range(2)]
        self.score(3)
        self.clock.advance(POLL_S)
        self.assertEqual([client.rowids for client in clients], [[1, 3]] * 2)

    def test_there_is_a_most_of_clients(self) -> None:
        self.patch(events, "MOST_CLIENTS", 1)
        self.connect()
        with self.assertRaises(Refused) as caught:
            self.feed.check_room()
        self.assertEqual(caught.exception.status, 429)

    def test_a_failing_read_is_logged_and_tried_again(self) -> None:
        client = self.connect()
        self.score(1)
        self.patch(results, "results_after", None)
        self.clock.advance(POLL_S)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(client.rowids, [])


class EndTest(EventsTestCase):
    def test_a_stream_ends_after_the_results_that_it_is_limited_to(self) -> None:
        other = self.connect()
        client = self.connect(Filter(threshold=0.9, limit=2))
        self.score(1, 0.5)
        self.score(3, 0.95)
        self.clock.advance(POLL_S)
        self.assertEqual(client.rowids, [2, 3])
        self.assertIs(client.producer, None)
        self.assertEqual(other.rowids, [1, 2, 3, 4])

    def test_one_that_was_missed_counts_too(self) -> None:
        self.score(5)
        self.assertEqual(self.connect(Filter(limit=2), last_event_id=1).rowids, [2, 3])
        self.assertEqual(self.feed.clients, 0)

    def test_a_client_that_reads_slowly_gets_them_all_before_the_end(self) -> None:
        client = self.connect(Filter(limit=3))
        client.full_at = len(client.received) + 1
        self.score(5)
        self.clock.advance(POLL_S)
        self.assertEqual(self.feed.clients, 1)
        client.read_on()
        self.assertEqual(client.rowids, [1, 2, 3])
        self.assertEqual(self.feed.clients, 0)

    def test_a_stream_ends_at_its_time(self) -> None:
        client = self.connect(Filter(timeout_s=3.0))
        self.clock.pump([0.5] * 5)
        self.assertIsNot(client.producer, None)
        self.clock.advance(0.5)
        self.assertIs(client.producer, None)


class RealConnectionTest(EventsTestCase):
    """With Twisted Web's own requests, which lose their channel when the client goes."""

    def setUp(self) -> None:
        super().setUp()
        self.routes = Routes(Access(AccessRules(), self.clock.seconds), self.clock, 30.0)
        self.routes.add(["GET"], "/events", None, self.stream)
        self.site = BoundedSite(self.routes.resource, self.clock)

    async def stream(self, call: Call) -> Stream:
        return Stream(lambda request: self.feed.serve(request, Filter(), 0), "text/event-stream")

    def request(self) -> tuple[Any, StringTransport]:
        protocol, transport = self.site.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return protocol, transport

    def test_a_client_that_leaves_is_forgotten_without_a_word(self) -> None:
        self.score(1)
        protocol, transport = self.request()
        self.assertIn(b'"rowid":1', transport.value())
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_so_is_one_that_leaves_while_what_it_missed_is_read(self) -> None:
        self.patch(InlineReader, "read", lambda *_: Deferred())
        protocol, _ = self.request()
        self.assertEqual(self.feed.clients, 1)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.flushLoggedErrors(), [])


class SlowClientTest(EventsTestCase):
    def test_it_misses_the_newest_and_is_told_how_many(self) -> None:
        self.patch(events, "BUFFERED", 3)
        self.patch(events, "WRITTEN_AT_ONCE", 1)
        client = self.connect()
        client.full_at = len(client.received) + 1
        self.score(10)
        self.clock.advance(POLL_S)
        self.assertEqual(client.rowids, [1])
        client.read_on()
        self.assertEqual(client.rowids, [1, 2, 3, 4])
        self.assertEqual(client.events("skipped"), [{"results": 6, "reason": "slow_client"}])
        self.score(1)
        self.clock.advance(POLL_S)
        self.assertEqual(client.rowids, [1, 2, 3, 4, 11])

    def test_it_waits_for_room_while_it_catches_up(self) -> None:
        self.patch(events, "READ_AT_ONCE", 1)
        for _ in range(4):
            self.score(1)
        client = Connection()
        client.full_at = len(events.RETRY) + 1
        served = Deferred.fromCoroutine(self.feed.serve(client, Filter(), 0))
        self.assertEqual(client.rowids, [1])
        client.read_on()
        self.assertEqual(client.rowids, [1, 2, 3, 4])
        self.feed.stop()
        self.successResultOf(served)

    def test_one_that_reads_nothing_for_long_is_let_go(self) -> None:
        client = self.connect()
        client.full_at = 0
        self.score(1)
        self.clock.pump([HEARTBEAT_S] * int(STALLED_S / HEARTBEAT_S + 2))
        self.assertIs(client.producer, None)
