# SPDX-License-Identifier: MIT
"""Raw scores to anomaly scores: stored once, broadcast at least once, the state rebuilt exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom, models
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.bus.interface import Delivery
from htmengine.evidence.likelihood import AnomalyLikelihood
from htmengine.evidence.scoring import likelihood_for
from htmengine.htm.params import ModelParams
from htmengine.messages import (
    DEFINE_MODEL,
    SNAPSHOT_MODEL,
    CommandResult,
    ModelError,
    ModelResult,
    ModelSnapshot,
    ResultRow,
    decode_broadcast,
    encode_command_result,
    encode_model_error,
    encode_model_snapshot,
    encode_results,
)
from htmengine.repository import counts, migrations, queries, snapshots
from htmengine.repository.engine import Database
from htmengine.repository.queries import MetricStatus
from htmengine.runtime import anomaly_service
from htmengine.runtime.anomaly_service import AnomalyOptions, AnomalyService
from tests.support.database import InlineDatabase

ROWS = 700


class Listeners:
    """A bus of which only the results exchange is used."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, Any], dict[str, str]]] = []

    async def broadcast(self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
        self.heard += [(decode_broadcast(body), dict(headers or {})) for body in bodies]


class AnomalyServiceTest(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        url = f"sqlite:///{folder / 'db'}"
        migrations.upgrade(url)
        database = Database(url)
        self.addCleanup(database.close)
        self.database = InlineDatabase(database)
        self.bus = Listeners()
        self.failures: list[Failure] = []
        self.metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 288)
        self.raws = [(n * 7 % 41) / 40 if n % 50 == 0 else 0.0 for n in range(1, ROWS + 1)]
        self.values = [float(n * 3 % 11) for n in range(1, ROWS + 1)]
        rows = [(self.metric.uid, n, 60 * n, self.values[n - 1]) for n in range(1, ROWS + 1)]
        self.database.run_sync(queries.insert_samples, rows)
        self.database.run_sync(queries.update_tails, [(self.metric.uid, ROWS, 60 * ROWS)])
        self.service = self.new_service()

    def tearDown(self) -> None:
        self.assertEqual(self.failures, [])

    def new_service(self) -> AnomalyService:
        """As after a restart."""
        options = AnomalyOptions("results", "exchange", states_in_memory=10)
        return AnomalyService(bus=self.bus, database=self.database, options=options, on_failure=self.failures.append)

    def deliver(self, *bodies: bytes) -> None:
        deliveries = [Delivery(body, {}, None) for body in bodies]
        self.successResultOf(Deferred.fromCoroutine(self.service._handle(deliveries)))

    def results(self, first: int, last: int, generation: int = 1) -> bytes:
        rows = tuple(ResultRow(n, 60 * n, self.values[n - 1], self.raws[n - 1]) for n in range(first, last + 1))
        return encode_results([ModelResult(self.metric.uid, generation, rows)])

    def stored(self) -> list[float | None]:
        return [row.anomaly for row in self.database.run_sync(queries.get_rows, self.metric.uid, 0, ROWS)]

    def expected(self) -> list[float]:
        likelihood = likelihood_for(ModelParams.for_range(0, 10))
        return [likelihood.score(value, raw) for value, raw in zip(self.values, self.raws, strict=True)]

    def heard_rows(self) -> list[int]:
        return [row["rowid"] for message, _ in self.bus.heard for row in message["results"]]

    def test_scores_are_those_of_the_likelihood_however_rows_are_cut_into_messages(self) -> None:
        for first in range(1, ROWS + 1, 70):
            self.deliver(self.results(first, first + 69))
        self.assertEqual(self.stored(), self.expected())
        self.assertEqual(self.heard_rows(), list(range(1, ROWS + 1)))

    def test_scores_are_the_same_over_restarts_at_any_point(self) -> None:
        for first in range(1, ROWS + 1, 140):
            self.deliver(self.results(first, first + 139))
            self.service = self.new_service()
        self.assertEqual(self.stored(), self.expected())

    def test_a_state_is_written_now_and_then_and_less_is_read_after(self) -> None:
        self.deliver(self.results(1, anomaly_service.STATE_EVERY_ROWS))
        [state] = self.database.run_sync(queries.load_states, [self.metric.uid]).values()
        self.assertEqual((state.generation, state.rowid), (1, anomaly_service.STATE_EVERY_ROWS))

    def test_a_damaged_state_is_made_anew_from_the_rows(self) -> None:
        self.deliver(self.results(1, 600))
        state = queries.AnomalyState(self.metric.uid, 1, 600, b"damaged")
        self.database.run_sync(queries.save_states, [state])
        self.service = self.new_service()
        self.deliver(self.results(601, ROWS))
        self.assertEqual(self.stored(), self.expected())

    def test_redelivered_results_are_broadcast_again_with_the_same_scores(self) -> None:
        self.deliver(self.results(1, 300))
        before = self.stored()
        self.deliver(self.results(251, 350))
        self.assertEqual(self.stored()[:300], before[:300])
        self.assertEqual(self.heard_rows(), [*range(1, 301), *range(251, 351)])
        self.assertEqual(self.stored()[:350], self.expected()[:350])

    def scored(self) -> tuple[int, int, float | None]:
        score = self.database.run_sync(counts.get_scores)[self.metric.uid]
        return score.rowid, score.scored, score.anomaly

    def test_each_row_counts_as_scored_once_over_restarts_and_redeliveries(self) -> None:
        for first in range(1, ROWS + 1, 70):
            self.deliver(self.results(first, first + 69))
            if first % 3 == 0:
                self.service = self.new_service()
            self.deliver(self.results(max(first - 100, 1), first + 69))
        self.assertEqual(self.scored(), (ROWS, ROWS, self.expected()[-1]))

    def test_a_service_that_was_away_counts_what_another_one_scored_meanwhile(self) -> None:
        self.deliver(self.results(1, 100))
        first, self.service = self.service, self.new_service()
        self.deliver(self.results(101, 200))
        self.service = first
        self.deliver(self.results(151, 300))
        self.assertEqual(self.scored()[:2], (300, 300))
        self.assertEqual(self.stored()[:300], self.expected()[:300])

    def snapshot(self, rowid: int) -> bytes:
        self.asked, _ = self.database.run_sync(models.snapshot_model, self.metric, 0)
        return encode_model_snapshot(ModelSnapshot(self.metric.uid, 1, "c", self.asked.version, rowid, b"model"))

    def assert_snapshot_is_after(self, rowid: int) -> None:
        taken = self.database.run_sync(snapshots.find, self.metric, self.asked.version)
        self.assertEqual((taken.rowid, taken.scored), (rowid, rowid))
        state = self.database.run_sync(snapshots.state_of, self.metric.uid, taken.version)
        likelihood = AnomalyLikelihood.restore(state.likelihood)
        later = zip(self.values[rowid:], self.raws[rowid:], strict=True)
        self.assertEqual([likelihood.score(value, raw) for value, raw in later], self.expected()[rowid:])

    def test_a_snapshot_gets_the_likelihood_after_the_same_row_whatever_comes_with_it(self) -> None:
        self.deliver(self.results(1, 300), self.snapshot(300), self.results(301, 400))
        self.assert_snapshot_is_after(300)
        self.assertEqual(self.bus.heard[-1][0]["method"], SNAPSHOT_MODEL)

    def test_a_snapshot_of_a_model_that_was_behind_gets_the_likelihood_from_the_rows(self) -> None:
        for first in range(1, ROWS + 1, 100):
            self.deliver(self.results(first, first + 99))
        self.deliver(self.snapshot(250))
        self.assert_snapshot_is_after(250)
        self.assertEqual(self.scored()[:2], (ROWS, ROWS))

    def test_a_model_that_starts_from_a_snapshot_has_its_likelihood(self) -> None:
        self.deliver(self.results(1, 300), self.snapshot(300))
        self.database.run_sync(lambda conn: models.revert_model(conn, self.metric, None, replay=True))
        self.service = self.new_service()
        self.deliver(self.results(301, 400, generation=2))
        self.assertEqual(self.stored()[:400], self.expected()[:400])
        self.assertEqual(self.scored()[:2], (400, 400))

    def test_results_of_an_older_model_are_let_go(self) -> None:
        self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 288)
        self.deliver(self.results(1, 10, generation=1))
        self.assertEqual(self.bus.heard, [])
        self.deliver(self.results(1, 10, generation=2))
        self.assertEqual(self.heard_rows(), list(range(1, 11)))

    def test_a_message_that_is_none_harms_no_other(self) -> None:
        self.deliver(b"nonsense", self.results(1, 10))
        self.assertEqual(self.heard_rows(), list(range(1, 11)))

    def test_a_model_that_is_made_makes_its_metric_active_and_applications_hear_of_it(self) -> None:
        self.deliver(encode_command_result(CommandResult(DEFINE_MODEL, self.metric.uid, 1, "c1")))
        self.assertEqual(self.database.run_sync(queries.get_metric, self.metric.uid).status, MetricStatus.ACTIVE)
        [(message, headers)] = self.bus.heard
        self.assertEqual(headers, {"dataType": "model-cmd-result"})
        self.assertEqual((message["method"], message["status"]), (DEFINE_MODEL, 0))
        self.assertEqual(message["modelInfo"]["metricName"], "m")

    def test_a_model_that_fails_puts_its_metric_into_error_whatever_came_with_it(self) -> None:
        error = encode_model_error(ModelError(self.metric.uid, 1, "bad value"))
        self.deliver(error, encode_command_result(CommandResult(DEFINE_MODEL, self.metric.uid, 1, "c1")))
        metric = self.database.run_sync(queries.get_metric, self.metric.uid)
        self.assertEqual((metric.status, metric.message), (MetricStatus.ERROR, "bad value"))
