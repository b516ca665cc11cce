# SPDX-License-Identifier: MIT
"""Scored rows to messages for the receivers: stored once, whatever comes twice, and told to those who are there."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.alerts import queries as alert_queries
from htmengine.alerts import service as alert_service
from htmengine.alerts.configuration import AlertConfig, AlertOptions, Rule
from htmengine.alerts.evaluation import Scored
from htmengine.alerts.incident_messages import Message
from htmengine.alerts.queries import AlertRecord
from htmengine.alerts.receivers import Alertmanager, Receiver, Webhook
from htmengine.alerts.service import AlertService
from htmengine.bus.interface import QueueLimits
from htmengine.errors import DeliveryFailed
from htmengine.incidents.budget_rules import BudgetRules
from htmengine.messages import MetricInfo, ScoredRow, encode_inference
from htmengine.repository import queries, results, troubles
from htmengine.repository.engine import Database
from htmengine.repository.queries import MetricStatus, Score
from htmengine.testing import MemoryBus
from tests.support.database import InlineDatabase, filled_database

START = 1_400_000_000
EXCHANGE = "results"
CONFIG = AlertConfig(
    rules=(
        Rule("load", metrics=("web.*",), threshold=0.999, window_s=600, receivers=("hook", "am")),
        Rule("quiet", metrics=("db.*",), threshold=0.999, window_s=600, resolved=False, receivers=("hook",)),
    ),
    receivers=(Webhook("hook", url="http://127.0.0.1/"), Alertmanager("am", url="http://127.0.0.1:9093")),
)


class FakeSender:
    """Takes everything, or refuses it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.resent: list[list[str]] = []
        self.refuses = False

    async def send(self, receiver: Receiver, notification: Message, delivery_id: str) -> str:
        if self.refuses:
            raise DeliveryFailed("no")
        self.sent.append((receiver.name, notification))
        return "200 OK"

    async def send_all(self, receiver: Alertmanager, notifications: Sequence[Message]) -> str:
        if self.refuses:
            raise DeliveryFailed("no")
        self.resent.append([each.subject for each in notifications])
        return "200 OK"


class ServiceCase(SynchronousTestCase):
    """A service with a database and a bus of its own, and metrics to speak of."""

    config = CONFIG
    names: Sequence[str] = ("web.a", "db.b")

    def setUp(self) -> None:
        key = type(self).new_metric, tuple(self.names)
        database, uids = self.filled_database(key, self.fill)
        self.database = InlineDatabase(database)
        self.uids = dict(uids)
        self.clock = Clock()
        self.clock.advance(START)
        self.bus = MemoryBus(self.clock)
        self.bus.startService()
        self.addCleanup(self.bus.stopService)
        self.done(self.bus.declare_fanout(EXCHANGE))
        self.sender = FakeSender()
        self.failures: list[Failure] = []
        self.service = self.start(self.config)

    def tearDown(self) -> None:
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.failures, [])

    def filled_database(self, key: Hashable, fill: Callable[[Database], Any]) -> tuple[Database, Any]:
        """A database with the metrics, and their uids; the integration tests have the same tests on servers."""
        return filled_database(self, key, fill)

    def fill(self, database: Database) -> dict[str, str]:
        self.database = InlineDatabase(database)
        return {name: self.new_metric(name) for name in self.names}

    def done(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def new_metric(self, name: str) -> str:
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=10), 288)
        rows = [(metric.uid, n, START + 60 * n, float(n)) for n in range(1, 101)]
        self.database.run_sync(queries.insert_samples, rows)
        return metric.uid

    def start(self, config: AlertConfig) -> AlertService:
        service = self.made(config)
        service.startService()
        return service

    def made(self, config: AlertConfig) -> AlertService:
        options = AlertOptions(config, EXCHANGE, "http://127.0.0.1:8080")
        self.budget_rules: Any = BudgetRules(clock=self.clock, database=self.database, options=options)
        return AlertService(
            clock=self.clock,
            bus=self.bus,
            database=self.database,
            sender=self.sender,
            options=options,
            budget_rules=self.budget_rules,
            on_failure=self.failures.append,
        )

    def restart(self, config: AlertConfig = CONFIG) -> None:
        self.successResultOf(self.service.stopService())
        self.service = self.start(config)

    def hear(self, name: str, *scores: tuple[int, float]) -> None:
        """Rows of a metric are scored, stored and broadcast."""
        info = MetricInfo(self.uids[name], name, None, None, None, "custom", {})
        rows = [ScoredRow(n, START + 60 * n, float(n), 0.5, anomaly) for n, anomaly in scores]
        uid = self.uids[name]
        self.database.run_sync(
            queries.save_scores,
            [Score(uid, row.rowid, row.timestamp, row.value, row.raw, row.anomaly, 0.0) for row in rows],
        )
        self.database.run_sync(results.save_anomalies, [(uid, row) for row in rows], 0.99)
        self.done(self.bus.broadcast(EXCHANGE, [encode_inference(info, rows)]))


class AlertServiceTest(ServiceCase):
    def records(self) -> list[AlertRecord]:
        return self.database.run_sync(alert_queries.list_alerts, 10)

    def fired(self) -> list[tuple[str, int]]:
        """Metric and rowid of each alert."""
        return sorted((record.metric, (record.timestamp - START) // 60) for record in self.records())

    def told(self) -> list[tuple[str, str, str]]:
        return [(receiver, each.status, each.metric) for receiver, each in self.sender.sent]

    def test_an_anomalous_row_is_told_to_each_receiver_of_its_rule(self) -> None:
        self.hear("web.a", (69, 0.1), (70, 0.9995))
        self.assertEqual(self.told(), [("hook", "firing", "web.a"), ("am", "firing", "web.a")])
        _, notification = self.sender.sent[0]
        self.assertEqual(
            (notification.rowid, notification.timestamp, notification.value, notification.score),
            (70, START + 4200, 70.0, 0.9995),
        )
        self.assertEqual(notification.link, f"http://127.0.0.1:8080/#/metrics/{self.uids['web.a']}")
        self.assertEqual([row.value for row in notification.recent], [float(n) for n in range(11, 71)])

    def test_rows_that_tell_the_range_wake_nobody(self) -> None:
        definition = self.database.run_sync(queries.get_metric, self.uids["web.a"]).definition
        assert definition is not None
        early = replace(definition, early=1)
        self.database.run_sync(queries.set_definition, self.uids["web.a"], early, MetricStatus.ACTIVE)
        self.hear("web.a", (1, 0.9999999))
        self.hear("db.b", (1, 0.9999999))
        self.assertEqual(self.fired(), [("db.b", 1)])
        self.hear("web.a", (2, 0.9999999))
        self.assertEqual(self.fired(), [("db.b", 1), ("web.a", 2)])

    def test_its_end_is_told_once_with_the_row_that_ended_it(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.hear("web.a", *((n, 0.2) for n in range(2, 20)))
        self.assertEqual(self.told()[2:], [("hook", "resolved", "web.a"), ("am", "resolved", "web.a")])
        notification = self.sender.sent[-1][1]
        self.assertEqual((notification.rowid, notification.started), (11, START + 60))
        self.assertEqual((self.service.fired, self.service.resolved), (1, 1))

    def test_a_rule_may_keep_its_end_to_itself(self) -> None:
        self.hear("db.b", (1, 1.0), (50, 0.0))
        self.assertEqual(self.told(), [("hook", "firing", "db.b")])
        [record] = self.records()
        self.assertIsNotNone(record.resolved_at)

    def test_rows_that_come_again_after_a_restart_are_not_told_again(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.restart()
        self.hear("web.a", (1, 1.0), (2, 0.0))
        self.assertEqual(len(self.told()), 2)
        self.assertEqual(len(self.records()), 1)

    def test_what_a_refusing_receiver_did_not_take_is_delivered_after_a_restart(self) -> None:
        self.sender.refuses = True
        self.hear("web.a", (1, 1.0))
        self.sender.refuses = False
        self.restart()
        self.clock.pump([1] * 5)
        self.assertEqual(sorted(self.told()), [("am", "firing", "web.a"), ("hook", "firing", "web.a")])

    def test_rows_of_the_time_when_it_was_away_are_evaluated_after_the_start(self) -> None:
        self.successResultOf(self.service.stopService())
        self.hear("web.a", (1, 1.0))
        self.assertEqual(self.told(), [])
        self.service = self.start(CONFIG)
        self.assertEqual(len(self.told()), 2)

    def away(self, *heard: tuple[str, int, float]) -> None:
        """Rows come while the service is away, more than its queue holds."""
        self.patch(alert_service, "QUEUE_LIMITS", QueueLimits(max_messages=3, overflow="drop-head"))
        self.done(self.bus.delete_queue("htmengine.alerts"))
        self.restart()
        self.successResultOf(self.service.stopService())
        for name, rowid, score in heard:
            self.hear(name, (rowid, score))

    @pytest.mark.long
    def test_alerts_whose_rows_its_queue_has_dropped_are_told_after_the_start(self) -> None:
        missed = [("web.a", 1, 1.0), ("db.b", 2, 1.0), *(("web.a", n, 0.1) for n in range(2, 20)), ("web.a", 90, 1.0)]
        self.away(*missed)
        self.service = self.start(CONFIG)
        self.assertEqual(self.fired(), [("db.b", 2), ("web.a", 1), ("web.a", 90)])
        self.assertEqual(len([record for record in self.records() if record.resolved_at is None]), 2)
        self.assertEqual(self.told().count(("hook", "firing", "web.a")), 2)
        self.assertEqual(self.service.overflows, 1)
        self.assertEqual(self.database.run_sync(troubles.list_of), [])

    def test_what_was_told_before_is_not_told_again_when_it_catches_up(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.away(*(("web.a", n, 0.1) for n in range(2, 10)))
        self.service = self.start(CONFIG)
        self.assertEqual(len(self.told()), 2)
        self.hear("web.a", (50, 0.1))
        self.assertEqual(self.told()[2:], [("hook", "resolved", "web.a"), ("am", "resolved", "web.a")])

    @pytest.mark.long
    def test_it_catches_up_with_many_rows_of_many_metrics_in_parts(self) -> None:
        self.patch(alert_service, "METRICS_AT_ONCE", 1)
        self.patch(alert_service, "ROWS_AT_ONCE", 2)
        names = [f"web.{letter}" for letter in "bcd"]
        self.uids |= {name: self.new_metric(name) for name in names}
        self.away(*((name, n, 1.0 if n in (1, 30) else 0.1) for name in names for n in range(1, 31)))
        self.service = self.start(CONFIG)
        self.assertEqual(self.fired(), [(name, 1) for name in names])
        self.assertEqual(self.told().count(("hook", "resolved", "web.c")), 1)

    def test_a_crash_while_it_catches_up_is_made_good_by_the_next_start(self) -> None:
        self.away(("web.a", 1, 1.0), *(("db.b", n, 0.1) for n in range(1, 10)))
        with mock.patch.object(alert_queries, "anomalous_spans", side_effect=RuntimeError("crash")):
            self.service = self.start(CONFIG)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual([failure.type for failure in self.failures], [RuntimeError])
        self.failures.clear()
        self.assertEqual([each.source for each in self.database.run_sync(troubles.list_of)], ["alert service"])
        self.restart()
        self.assertEqual(len(self.told()), 2)
        self.assertEqual(self.database.run_sync(troubles.list_of), [])

    def test_old_anomalies_wake_nobody_when_it_catches_up(self) -> None:
        self.away(*(("web.a", n, 1.0) for n in range(1, 10)))
        self.clock.advance(2 * 86_400)
        self.service = self.start(CONFIG)
        self.assertEqual(self.told(), [])

    def test_a_queue_that_overflows_while_it_reads_is_begun_anew(self) -> None:
        self.away(("web.a", 1, 1.0), ("web.a", 2, 0.1))
        self.patch(alert_service, "PREFETCH", 1)
        self.service = self.start(CONFIG)
        self.assertEqual((len(self.told()), self.service.overflows), (2, 0))
        self.patch(alert_service, "QUEUE_LIMITS", QueueLimits(max_messages=1, overflow="drop-head"))
        evaluate = self.service._evaluate
        blocked: Deferred[None] = Deferred()

        async def slow(scored: Sequence[Scored]) -> None:
            await blocked
            await evaluate(scored)

        self.patch(self.service, "_evaluate", slow)
        for n in range(3, 9):
            self.hear("db.b", (n, 1.0 if n == 5 else 0.1))
        blocked.callback(None)
        self.assertEqual(self.service.overflows, 1)
        self.assertEqual(self.fired(), [("db.b", 5), ("web.a", 1)])

    def test_an_alert_of_a_metric_that_falls_silent_stays_open(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.clock.pump([600] * 4)
        self.assertEqual(len(self.told()), 2)
        [record] = self.records()
        self.assertEqual((record.resolved_at, record.newest), (None, None))

    @pytest.mark.long
    def test_a_deleted_metric_is_resolved_and_forgotten(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.database.run_sync(queries.delete_metric, self.uids["web.a"])
        self.clock.pump([60] * 2)
        self.assertEqual(self.sender.sent[-1][1].reason, "the metric was deleted")
        key = ("load", self.uids["web.a"])
        self.assertEqual(self.database.run_sync(alert_queries.load_alert_states, [key]), {})

    def test_a_rule_that_is_gone_is_resolved_for_those_who_were_told(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.restart(replace(CONFIG, rules=CONFIG.rules[1:]))
        self.clock.advance(60)
        self.assertEqual(self.told()[2:], [("hook", "resolved", "web.a"), ("am", "resolved", "web.a")])
        self.assertEqual(self.sender.sent[-1][1].reason, "the rule was removed")

    def test_a_metric_that_a_rule_is_no_longer_for_is_resolved(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.restart(replace(CONFIG, rules=(replace(CONFIG.rules[0], metrics=("db.*",)),)))
        self.clock.advance(60)
        self.assertEqual(len(self.told()), 4)

    def test_an_alertmanager_is_told_again_as_long_as_it_fires(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.clock.pump([60] * 2)
        self.assertEqual(self.sender.resent, [["web.a"], ["web.a"]])
        self.hear("web.a", (50, 0.0))
        self.clock.pump([60] * 2)
        self.assertEqual(len(self.sender.resent), 2)

    def test_an_alertmanager_that_is_away_harms_nothing(self) -> None:
        self.hear("web.a", (1, 1.0))
        self.sender.refuses = True
        self.clock.pump([60] * 2)
        self.assertEqual(self.failures, [])

    def test_alerts_that_are_long_over_are_forgotten(self) -> None:
        self.hear("web.a", (1, 1.0), (50, 0.0))
        self.clock.pump([60] * 2)
        self.assertEqual(len(self.records()), 1)
        self.clock.advance(31 * 86_400)
        self.clock.advance(60)
        self.assertEqual(self.records(), [])

    def test_a_message_that_is_none_is_counted_and_harms_no_other(self) -> None:
        self.done(self.bus.broadcast(EXCHANGE, [b"nonsense"]))
        self.hear("web.a", (1, 1.0))
        self.assertEqual((self.service.rejected, len(self.told())), (1, 2))

    def test_without_rules_no_queue_fills_up(self) -> None:
        self.restart(AlertConfig())
        self.hear("web.a", (1, 1.0))
        self.assertEqual(self.told(), [])
        failure = self.failureResultOf(Deferred.fromCoroutine(self.bus.depth("htmengine.alerts")))
        self.assertIn("htmengine.alerts", failure.getErrorMessage())
