# SPDX-License-Identifier: MIT
"""Results for a Prometheus: each once, in their order, none left out without a count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import cramjam
import pytest
from sqlalchemy import update
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.config import LABEL_PAIRS, RemoteWriteSection
from htmengine.errors import DeliveryFailed, StartError
from htmengine.export import remote_writer
from htmengine.export.remote_writer import ALARMS_AGAIN_S, LOSS_TOLD_S, RemoteWriter, WriterOptions
from htmengine.incidents import queries as incident_queries
from htmengine.messages import ScoredRow
from htmengine.process.http_client import Answer
from htmengine.process.progress import Progress
from htmengine.repository import counts, queries, results
from htmengine.repository.counts import MetricScore
from htmengine.repository.engine import Database
from htmengine.repository.schema import metric_data
from htmengine.wires.remote_write import MetricTypes, read_version_1
from htmengine.wires.samples import Sample
from tests.support.database import InlineDatabase, new_database

START = 1_700_000_000
URL = "http://prometheus.example.com:9090/api/v1/write?token=secret"
OK = Answer(204, "204 No Content", 0.0)


class FakePrometheus:
    """Refuses a request that has one sample older than the newest of its series, as Prometheus does."""

    def __init__(self) -> None:
        self.series: dict[str, dict[float, float]] = {}
        self.requests: list[Mapping[str, str]] = []
        self.answers: list[Answer | DeliveryFailed] = []  #: given before it works
        self.hangs = False  #: its answer never comes
        self.oldest = 0.0  #: samples before it are too old

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float, tls_ca_file: str
    ) -> Answer:
        self.requests.append(headers)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, DeliveryFailed):
                raise answer
            return answer
        samples = read_version_1(bytes(cramjam.snappy.decompress_raw(body)), MetricTypes()).samples
        if any(self._refuses(each) for each in samples):
            return Answer(400, "400 Bad Request out of order sample", 0.0)
        for each in samples:
            self.series.setdefault(each.name, {})[each.timestamp] = each.value
        if self.hangs:
            await Deferred[None]()
        return OK

    def _refuses(self, sample: Sample) -> bool:
        known = self.series.get(sample.name, {})
        newest = max(known, default=0.0)
        return sample.timestamp < max(newest, self.oldest) or known.get(sample.timestamp, sample.value) != sample.value


class RemoteWriterTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.inline = cast(Database, InlineDatabase(self.database))
        self.clock = Clock()
        self.clock.advance(START)
        self.progress = Progress(self.clock.seconds)
        self.prometheus = FakePrometheus()
        self.rows: dict[str, int] = {}
        self.uids = {name: self.metric(name) for name in ("cpu;host=h1", "disk")}

    def metric(self, name: str) -> str:
        spec = ModelSpec.for_name(name, min=0, max=10)
        uid = self.database.run_sync(custom.monitor_metric, spec, 288)[0].uid
        self.rows[uid] = 0
        return uid

    def score(self, name: str, *scores: float, start: int | None = None) -> None:
        """Rows with these scores, a second apart, in one transaction."""
        uid, first = self.uids[name], self.rows[self.uids[name]] + 1
        at = START + first if start is None else start
        rows = [ScoredRow(first + n, at + n, 10.0 * score, 0.5, score) for n, score in enumerate(scores)]
        self.rows[uid] += len(rows)
        self.database.run_sync(queries.insert_samples, [(uid, row.rowid, row.timestamp, row.value) for row in rows])
        c = metric_data.c
        for row in rows:
            values = update(metric_data).where(c.uid == uid, c.rowid == row.rowid)
            stored = values.values(raw_anomaly_score=row.raw, anomaly_score=row.anomaly)
            self.database.run_sync(lambda conn, stored=stored: conn.execute(stored))
        self.database.run_sync(results.append_log, [(uid, row) for row in rows])

    def writer(self, *, alone: bool = False, **options: Any) -> RemoteWriter:
        writer = RemoteWriter(
            clock=self.clock,
            database=self.inline,
            client=self.prometheus,
            options=WriterOptions.of(RemoteWriteSection(url=URL, **options)),
            alone=alone,
            progress=self.progress,
            on_failure=lambda failure: self.fail(failure.getTraceback()),
        )
        writer.startService()
        self.addCleanup(writer.stopService)
        return writer

    def series(self, family: str, name: str = "metric=disk") -> dict[float, float]:
        return self.prometheus.series.get(f"htmengine_metric_{family};{name}", {})

    def test_each_result_is_a_sample_of_value_and_score_with_the_metrics_labels(self) -> None:
        self.score("disk", 0.9)  # before the first start: not wanted
        writer = self.writer(labels="engine=a")
        self.score("cpu;host=h1", 0.1, 0.2)
        self.score("disk", 0.3)
        self.clock.advance(1)
        labels = "engine=a;host=h1;metric=cpu"
        self.assertEqual(self.series("value", labels), {START + 1.0: 1.0, START + 2.0: 2.0})
        self.assertEqual(self.series("anomaly_score", labels), {START + 1.0: 0.1, START + 2.0: 0.2})
        self.assertEqual(self.series("anomaly_score", "engine=a;metric=disk"), {START + 2.0: 0.3})
        self.assertEqual(self.series("alarm", labels), {START + 1.0: 0.0})
        self.assertEqual((writer.written, writer.waiting, writer.failures), (8, 0, 0))

    def test_labels_that_would_make_one_series_of_many_are_refused(self) -> None:
        for labels in ("metric=a", "engine=a __name__=x", "engine=a engine=b", "engine", "1=a"):
            with self.assertRaises(ValueError):
                LABEL_PAIRS.read(labels)
        self.assertEqual(LABEL_PAIRS.read("engine=a=b dc="), "engine=a=b dc=")

    def test_the_expected_value_of_a_newest_row(self) -> None:
        self.writer()
        self.score("disk", 0.1, 0.2)
        score = MetricScore(self.uids["disk"], 1, rowid=2, scored=2, expected=2.5, lower=1.0, upper=4.0)
        self.database.run_sync(counts.start_scores, score)
        self.clock.advance(1)
        self.assertEqual(self.series("expected"), {START + 2.0: 2.5})
        self.assertEqual(self.series("expected_upper"), {START + 2.0: 4.0})

    def test_selectors_choose(self) -> None:
        self.writer(metrics='{host=~"h.*"}, !db*')
        self.score("cpu;host=h1", 0.1)
        self.score("disk", 0.2)
        self.clock.advance(1)
        self.assertEqual(
            set(self.prometheus.series),
            {f"htmengine_metric_{family};host=h1;metric=cpu" for family in ("value", "anomaly_score", "alarm")},
        )

    def test_what_is_away_is_tried_again_and_results_wait(self) -> None:
        writer = self.writer(authorization="Bearer x")
        busy = Answer(503, "503 Busy", 5.0)
        self.prometheus.answers = [DeliveryFailed("refused"), busy, Answer(429, "429", 0.0)]
        self.score("disk", 0.1)
        self.clock.advance(1)
        self.score("disk", 0.2)
        self.clock.pump([0.6, 4.9])
        self.assertEqual((len(self.prometheus.requests), writer.failures, writer.waiting), (2, 2, 2))
        self.clock.pump([0.2, 2.1])
        self.assertEqual(self.series("anomaly_score"), {START + 1.0: 0.1, START + 2.0: 0.2})
        self.assertEqual({each["Authorization"] for each in self.prometheus.requests}, {"Bearer x"})

    def test_it_is_told_that_results_wait_and_no_secret_is(self) -> None:
        self.writer()
        self.prometheus.answers = [DeliveryFailed("refused")] * 100
        self.score("disk", 0.1)
        self.clock.pump([1.0] * 120)
        [told] = self.progress.stalled(60.0)
        self.assertIn("http://prometheus.example.com:9090 takes no results, which wait", told)

    def test_a_kill_between_writing_and_noting_loses_nothing_and_leaves_nothing_twice(self) -> None:
        killed = self.writer()
        self.prometheus.hangs = True
        self.score("disk", 0.1, 0.2, 0.3)
        self.clock.advance(1)
        self.assertEqual(len(self.series("value")), 3)  # and it is never heard of again
        self.prometheus.hangs = False
        self.score("disk", 0.4)
        writer = self.writer()
        self.clock.pump([5.0] * 12)
        self.assertEqual(list(self.series("anomaly_score").values()), [0.1, 0.2, 0.3, 0.4])
        self.assertEqual((killed.written, writer.written), (0, 5))
        self.assertEqual(dict(writer.refused), {"400": 4})  # it has them
        self.assertEqual(self.progress.stalled(5.0), [])

    def test_a_sample_that_is_refused_is_left_out_alone_and_counted(self) -> None:
        writer = self.writer()
        self.score("disk", *(0.1,) * 5, start=START + 1000)
        self.clock.advance(1)
        self.score("disk", 0.2, start=START)  # older than what there is
        self.score("cpu;host=h1", *(0.3,) * 9)
        self.clock.advance(1)
        self.assertEqual(len(self.series("anomaly_score", "host=h1;metric=cpu")), 9)
        self.assertEqual(dict(writer.refused), {"400": 2})  # value and score
        self.clock.advance(61)
        self.assertIn("are lost", self.progress.stalled(60.0)[0])
        self.clock.advance(LOSS_TOLD_S)
        self.assertEqual(self.progress.stalled(60.0), [])

    @pytest.mark.long
    def test_many_results_that_are_too_old_cost_few_requests_and_hardly_any_that_are_not(self) -> None:
        writer = self.writer()
        self.prometheus.oldest = START + 130.0
        self.score("disk", *(0.1,) * 160)
        self.clock.advance(1)
        taken = self.series("anomaly_score")
        self.assertEqual((len(taken) > 31 - 260 / 20, min(taken) >= START + 130, START + 160 in taken), (True,) * 3)
        self.assertEqual(writer.refused["400"] + writer.written, 321)
        self.assertLess(len(self.prometheus.requests), 130)  # one by one: 550

    def test_what_is_wrong_with_the_token_or_the_path_loses_nothing(self) -> None:
        writer = self.writer()
        statuses = (401, 403, 404, 405, 302)
        self.prometheus.answers = [Answer(status, f"{status} of the way", 0.0) for status in statuses]
        self.score("disk", 0.1)
        self.clock.pump([1.0] * 7)
        self.assertEqual((writer.waiting, writer.failures), (1, 4))
        self.assertIn("takes no results, which wait", self.progress.stalled(5.0)[0])
        self.clock.pump([1.0] * 20)
        self.assertEqual(self.series("anomaly_score"), {START + 1.0: 0.1})
        self.assertEqual((writer.refused, writer.failures), ({}, 5))

    def test_what_left_the_log_is_counted(self) -> None:
        writer = self.writer()
        self.patch(results, "KEPT_RESULTS", 2)
        for _ in range(5):
            self.score("disk", 0.1)
        self.clock.advance(1)
        self.assertEqual((writer.missed, len(self.series("value"))), (3, 2))

    def test_an_open_alarm_is_told_when_it_changes_and_now_and_then(self) -> None:
        alarming: set[str] = set()
        self.patch(incident_queries, "uids_in_open_incidents", lambda conn: alarming)
        self.writer()
        alarming.add(self.uids["disk"])
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.series("alarm"), {START + 1.0: 1.0})
        self.clock.advance(ALARMS_AGAIN_S)
        alarming.clear()
        self.clock.advance(1)
        self.assertEqual(list(self.series("alarm").values()), [1.0, 1.0, 0.0])

    @pytest.mark.long
    def test_only_one_process_writes_and_another_goes_on_after_it(self) -> None:
        first, second = self.writer(), self.writer()
        self.score("disk", 0.1)
        self.clock.pump([1.0] * 20)
        self.assertEqual((first.written, second.written), (3, 0))
        first.stopService()
        self.score("disk", 0.2)
        self.clock.pump([1.0] * 100)
        self.assertEqual(second.written, 3)
        self.assertEqual(len(self.series("value")), 2)

    def test_one_that_is_alone_waits_for_nobody(self) -> None:
        self.writer(alone=True)  # and dies
        self.score("disk", 0.1)
        self.writer(alone=True)
        self.assertEqual(len(self.series("value")), 1)

    def test_more_than_a_request_holds_goes_without_a_pause(self) -> None:
        self.patch(remote_writer, "RESULTS_AT_ONCE", 2)
        writer = self.writer()
        for _ in range(4):
            self.score("disk", 0.1, 0.1)
        self.clock.advance(1)
        self.assertEqual((len(self.series("value")), writer.waiting), (8, 0))

    def test_wrong_options_are_named(self) -> None:
        error = self.assertRaises(StartError, WriterOptions.of, RemoteWriteSection(url=URL, metrics="{a}"))
        self.assertIn("[remote_write] metrics: ", str(error))
