# SPDX-License-Identifier: MIT
"""Messages are delivered once each, tried again for a while, and never lost by a stop or a crash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts import queries as alert_queries
from htmengine.alerts.courier import Courier
from htmengine.alerts.notifications import Notification
from htmengine.alerts.queries import DeliveryState
from htmengine.alerts.receivers import Alertmanager, Receiver, Webhook
from htmengine.errors import DeliveryFailed
from htmengine.repository.engine import Database
from tests.support.database import InlineDatabase, new_database
from tests.support.notifications import FIRING, RESOLVED

START = 1_400_000_000.0


class FakeSender:
    """Every attempt waits until the test answers it."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.pending: list[Deferred[str]] = []

    async def send(self, receiver: Receiver, notification: Notification, delivery_id: str) -> str:
        self.attempts.append(delivery_id)
        # As the real one: an attempt that is cancelled has failed.
        answer: Deferred[str] = Deferred(lambda waiting: waiting.errback(DeliveryFailed("cancelled")))
        self.pending.append(answer)
        return await answer

    async def send_all(self, receiver: Alertmanager, notifications: Sequence[Notification]) -> str:
        raise AssertionError("a courier sends one message at a time")

    def succeed(self) -> None:
        self.pending.pop(0).callback("200 OK")

    def fail(self, retry_after_s: float = 0.0) -> None:
        self.pending.pop(0).errback(DeliveryFailed("500 Oops", retry_after_s))


class CourierTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = InlineDatabase(self.new_database())
        self.clock = Clock()
        self.clock.advance(START)
        self.sender = FakeSender()
        self.courier = self.new_courier()

    def new_database(self) -> Database:
        """An empty database; the integration tests have the same tests on servers."""
        return new_database(self)

    def new_courier(self) -> Courier:
        courier = Courier(
            receiver=Webhook("hook", url="http://127.0.0.1/"),
            sender=self.sender,
            database=self.database,
            clock=self.clock,
            give_up_s=100.0,
        )
        self.ended = Deferred.fromCoroutine(courier.run())
        return courier

    def queue(self, *notifications: Notification) -> None:
        for each in notifications:
            created = replace(each, created=self.clock.seconds())
            self.database.run_sync(alert_queries.add_alert, created)
            self.database.run_sync(alert_queries.add_deliveries, created, ["hook"])
        self.courier.wake()

    def states(self) -> list[tuple[str, DeliveryState, int, str]]:
        [record] = self.database.run_sync(alert_queries.list_alerts, 10)
        return [(each.status, each.state, each.attempts, each.answer) for each in record.deliveries]

    @pytest.mark.long
    def test_a_message_is_delivered_and_not_again(self) -> None:
        self.queue(FIRING)
        self.sender.succeed()
        self.clock.advance(1000)
        self.assertEqual(self.sender.attempts, ["0d7f.firing.hook"])
        self.assertEqual(self.states(), [("firing", DeliveryState.DELIVERED, 1, "200 OK")])
        self.assertEqual((self.courier.delivered, self.courier.failed), (1, 0))

    def test_queued_twice_it_is_one_message(self) -> None:
        self.queue(FIRING, FIRING)
        self.sender.succeed()
        self.assertEqual(len(self.sender.attempts), 1)

    @pytest.mark.long
    def test_a_failure_is_tried_again_ever_more_slowly_with_the_same_id(self) -> None:
        self.queue(FIRING)
        for wait in (2, 4, 8):
            self.sender.fail()
            self.clock.advance(wait - 0.01)
            self.assertEqual(self.sender.pending, [])
            self.clock.advance(0.02)
            self.assertEqual(len(self.sender.pending), 1)
        self.sender.succeed()
        self.assertEqual(set(self.sender.attempts), {"0d7f.firing.hook"})
        self.assertEqual(self.states(), [("firing", DeliveryState.DELIVERED, 4, "200 OK")])

    def test_an_error_that_nobody_expects_is_a_failure_of_that_message_alone(self) -> None:
        self.queue(FIRING)
        self.sender.pending.pop(0).errback(ZeroDivisionError("surprise"))
        self.assertEqual(self.states(), [("firing", DeliveryState.WAITING, 1, "ZeroDivisionError: surprise")])
        self.clock.advance(2.0)
        self.sender.succeed()
        self.assertEqual(self.states(), [("firing", DeliveryState.DELIVERED, 2, "200 OK")])

    def test_a_receiver_that_fails_is_a_trouble_until_it_takes_a_message(self) -> None:
        self.queue(FIRING)
        self.assertEqual(self.database.run_sync(alert_queries.unreached), [])
        self.sender.fail()
        self.clock.advance(2.0)
        self.assertEqual(
            self.database.run_sync(alert_queries.unreached),
            ["receiver 'hook' has taken no message since 2014-05-13 16:53:20 UTC: 500 Oops"],
        )
        self.sender.succeed()
        self.assertEqual(self.database.run_sync(alert_queries.unreached), [])

    def test_a_receiver_that_wants_to_be_left_alone_is(self) -> None:
        self.queue(FIRING)
        self.sender.fail(retry_after_s=60)
        self.clock.pump([5] * 11)
        self.assertEqual(len(self.sender.attempts), 1)
        self.clock.pump([5])
        self.assertEqual(len(self.sender.attempts), 2)

    @pytest.mark.long
    def test_it_is_given_up_after_its_time(self) -> None:
        self.queue(FIRING)
        while self.sender.pending:
            self.sender.fail()
            for _ in range(70):
                if not self.sender.pending:
                    self.clock.advance(1)
        self.assertEqual(len(self.sender.attempts), 6)  # after 0, 2, 6, 14, 30 and 62 s; the next were 126 s
        self.assertEqual(self.states(), [("firing", DeliveryState.GIVEN_UP, 6, "500 Oops")])
        self.assertEqual(self.courier.given_up, 1)

    def test_the_end_of_an_alert_waits_until_its_beginning_is_told(self) -> None:
        self.queue(FIRING, RESOLVED)
        self.sender.fail()
        self.assertEqual(self.sender.attempts, ["0d7f.firing.hook"])
        self.clock.advance(2)
        self.sender.succeed()
        self.sender.succeed()
        self.assertEqual(self.sender.attempts[1:], ["0d7f.firing.hook", "0d7f.resolved.hook"])

    def test_other_alerts_need_not_wait(self) -> None:
        self.queue(FIRING)
        self.sender.fail()
        self.queue(replace(FIRING, alert_id="other"))
        self.assertEqual(self.sender.attempts, ["0d7f.firing.hook", "other.firing.hook"])

    def test_a_stop_ends_the_attempt_and_the_next_start_makes_it_again(self) -> None:
        self.queue(FIRING)
        self.courier.stop()
        self.successResultOf(self.ended)
        self.assertEqual(self.states(), [("firing", DeliveryState.WAITING, 1, "interrupted")])
        self.sender.pending.clear()
        self.courier = self.new_courier()
        self.sender.succeed()
        self.assertEqual(self.sender.attempts, ["0d7f.firing.hook"] * 2)

    def test_after_a_crash_it_is_sent_again_when_the_lease_is_over(self) -> None:
        self.queue(FIRING)
        self.sender.pending.clear()  # the process is gone
        self.courier = self.new_courier()
        self.clock.pump([1] * 14)
        self.assertEqual(len(self.sender.attempts), 1)
        self.clock.pump([1])
        self.assertEqual(self.sender.attempts, ["0d7f.firing.hook"] * 2)

    def test_of_two_processes_only_one_sends(self) -> None:
        self.courier = self.new_courier()
        self.queue(FIRING)
        self.clock.advance(6)
        self.assertEqual(len(self.sender.attempts), 1)
        self.sender.succeed()

    def test_what_waits_for_a_receiver_that_is_gone_is_given_up(self) -> None:
        self.courier.stop()
        self.queue(FIRING)
        self.database.run_sync(alert_queries.give_up_unknown, ["other"], START)
        self.assertEqual(self.states(), [("firing", DeliveryState.GIVEN_UP, 0, "the receiver was removed")])
