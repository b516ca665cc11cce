# SPDX-License-Identifier: MIT
"""The same on SQLite, MariaDB and PostgreSQL: schema, queries, the storer's transaction, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Connection, inspect, select, text
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.errors import ConfigError, DatabaseClosed, MetricExists, StartError
from htmengine.gaps import GapRules
from htmengine.labels import MAX_TEXT_BYTES, compose, identity
from htmengine.ledger import read_ledger
from htmengine.messages import CHECKPOINTS_REFUSED, Reject, SampleBatch, encode_samples
from htmengine.repository import (
    counts,
    durability,
    engine,
    joining,
    late_samples,
    migrations,
    queries,
    reading,
    rejects,
    result_readers,
    schema,
    troubles,
)
from htmengine.repository.connections import make_engine
from htmengine.repository.counts import MetricScore
from htmengine.repository.engine import Database
from htmengine.repository.joining import JoinRules
from htmengine.repository.queries import Metric, MetricStatus, Score
from htmengine.repository.reading import MetricQuery
from htmengine.runtime import metric_garbage_collector
from htmengine.runtime.late_window import LateWindow
from htmengine.runtime.metric_garbage_collector import DAY_S, collect
from htmengine.runtime.metric_storer import MetricStorer
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from htmengine.testing import MemoryBus
from htmengine.web.views import metric_json
from tests.support.engine import wait_for
from tests.support.servers import MariaDB, PostgreSQL

OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=True, pending_samples=5)
FLOATS = [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2, 1 / 3, -123456789.12345679, 1e22, 0.0]


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'db'}"
    server: MariaDB | PostgreSQL = request.getfixturevalue(request.param)
    return server.new_database()


@pytest.fixture
def url(empty: str) -> str:
    """The URL of a database with our tables."""
    migrations.upgrade(empty)
    return empty


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


def create(database: Database, *names: str) -> list[Metric]:
    specs = [ModelSpec.for_name(name) for name in names]
    return [*database.run_sync(custom.create_metrics, specs, monitor=False).values()]


def check(url: str) -> None:
    """Raises `StartError` if the schema is not ours."""
    database = Database(url)
    try:
        database.run_sync(migrations.check)
    finally:
        database.close()


def rows_of(database: Database, name: str) -> list[tuple[int, int, float]]:
    metric = database.run_sync(queries.find_metrics, [name])[name]
    return [(row.rowid, row.timestamp, row.value) for row in database.run_sync(queries.get_rows, metric.uid, 0, 10_000)]


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Their results, when all have been run in threads of their own."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(120) for future in [pool.submit(call) for call in calls]]


def test_a_server_that_confirms_before_it_syncs_is_told(database: Database) -> None:
    """As our PostgreSQL does, so that tests are quick."""

    def told(conn: Connection) -> list[str]:
        if conn.dialect.name != "mysql":
            return durability.weaknesses(conn)
        assert durability.weaknesses(conn) == []
        conn.exec_driver_sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        try:
            return durability.weaknesses(conn)
        finally:
            conn.exec_driver_sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")

    expected = {"mysql": ["innodb_flush_log_at_trx_commit is 2"], "postgresql": ["fsync is off"], "sqlite": []}
    kind = database.run_sync(lambda conn: conn.dialect.name)
    assert [text.partition(":")[0] for text in database.run_sync(told)] == expected[kind]


class TestSchema:
    def test_an_empty_database_is_not_current_and_upgrading_twice_changes_nothing(self, empty: str) -> None:
        with pytest.raises(StartError, match="htmengine db upgrade"):
            check(empty)
        migrations.upgrade(empty)
        database = Database(empty)
        create(database, "a")
        migrations.upgrade(empty)
        assert [metric.name for metric in database.run_sync(queries.list_metrics)] == ["a"]
        database.close()

    def test_processes_that_upgrade_at_once_wait_for_each_other(self, empty: str) -> None:
        """What they wait for is held here."""
        holder = make_engine(empty)
        with holder.connect() as conn:
            take = {
                "sqlite": "SELECT 'the transaction that it begins is the lock'",
                "mysql": "SELECT GET_LOCK('htmengine_schema', 10)",
                "postgresql": "SELECT pg_advisory_lock(7211903)",
            }
            conn.exec_driver_sql(take[conn.dialect.name])
            upgrading = threading.Thread(target=migrations.upgrade, args=(empty,))
            upgrading.start()
            upgrading.join(0.5)
            assert upgrading.is_alive()
        holder.dispose()
        upgrading.join(60)
        check(empty)

    def test_reset_leaves_the_tables_of_other_programs(self, url: str, database: Database) -> None:
        create(database, "a")

        def add_table(conn: Connection) -> None:
            conn.execute(text("CREATE TABLE theirs (id INTEGER)"))

        database.run_sync(add_table)
        migrations.reset(url)
        assert database.run_sync(queries.list_metrics) == []
        assert "theirs" in database.run_sync(lambda conn: inspect(conn).get_table_names())

    def test_reset_makes_the_database_if_there_is_none(self, empty: str) -> None:
        fresh = empty.replace("/test", "/made_by_reset", 1) if "sqlite" not in empty else empty + "2"
        migrations.reset(fresh)
        migrations.reset(fresh)
        check(fresh)

    def test_a_url_of_no_database_of_ours_is_refused_without_showing_it(self) -> None:
        for url in ("nonsense", "oracle://scott:tiger@host/db", "mysql+nodriver://root:tiger@host/db"):
            with pytest.raises(ConfigError, match=r"\[repository\] url") as refused:
                Database(url)
            assert "tiger" not in str(refused.value)


class TestQueries:
    def test_names_are_told_apart_byte_by_byte(self, database: Database) -> None:
        names = ["cpu", "CPU", "cpü", "cpu\u0308", "ｃpu", "\N{PILE OF POO}", "x" * 255, "\N{PILE OF POO}" * 255]
        created = create(database, *names)
        assert len({metric.uid for metric in created}) == len(names)
        found = database.run_sync(queries.find_metrics, names)
        assert {name: metric.name for name, metric in found.items()} == {name: name for name in names}

    def test_batch_ids_are_told_apart_byte_by_byte(self, database: Database) -> None:
        database.run_sync(queries.add_batches, ["a", "A"], 0)
        assert database.run_sync(queries.known_batches, ["a", "A", "ä"]) == {"a", "A"}

    def test_every_float_comes_back_bit_by_bit(self, database: Database) -> None:
        [metric] = create(database, "m")
        database.run_sync(queries.insert_samples, [(metric.uid, n, 60 * n, value) for n, value in enumerate(FLOATS, 1)])
        scores = [
            Score(metric.uid, n, 60 * n, value, value, value, value, {"1": [[value, 0.5]]})
            for n, value in enumerate(FLOATS, 1)
        ]
        assert database.run_sync(queries.save_scores, scores) == len(FLOATS)
        rows = database.run_sync(queries.get_rows, metric.uid, 0, 100)
        for row, value in zip(rows, FLOATS, strict=True):
            assert (row.value, row.raw, row.anomaly, row.display) == (value,) * 4
            assert row.predictions == {"1": [[value, 0.5]]}

    def test_timestamps_reach_from_1970_to_2100(self, database: Database) -> None:
        [metric] = create(database, "m")
        times = [0, 1, 1_400_000_000, 4_102_444_800]
        database.run_sync(queries.insert_samples, [(metric.uid, n, at, 1.0) for n, at in enumerate(times, 1)])
        database.run_sync(queries.update_tails, [(metric.uid, 4, times[-1])])
        assert [at for _, at, _ in rows_of(database, "m")] == times
        assert database.run_sync(queries.get_metric, metric.uid).last_timestamp == times[-1]

    def test_thousands_of_scores_are_saved_at_once_and_rows_that_are_gone_stay_gone(self, database: Database) -> None:
        a, b = create(database, "a", "b")
        samples = [(each.uid, n, 60 * n, 1.0) for each in (b, a) for n in range(1, 1201)]
        database.run_sync(queries.insert_samples, samples)
        scores = [Score(uid, n, at, value, n / 2400, n / 4800, 0.0) for uid, n, at, value in samples]
        gone = Score(a.uid, 5000, 300_000, 1.0, 0.5, 0.5, 0.5)
        other = Score(a.uid, 7, 60 * 7, 1.5, 0.5, 0.5, 0.5)
        assert database.run_sync(queries.save_scores, [*scores, gone, other]) == len(scores)
        for metric in (a, b):
            rows = database.run_sync(queries.get_rows, metric.uid, 0, 5000)
            assert [(row.rowid, row.raw, row.anomaly) for row in rows] == [
                (n, n / 2400, n / 4800) for n in range(1, 1201)
            ]

    def test_old_rows_go_and_newer_ones_stay(self, database: Database) -> None:
        a, b = create(database, "a", "b")
        database.run_sync(queries.insert_samples, [(each.uid, n, 60 * n, n) for each in (a, b) for n in range(1, 11)])
        for metric in (a, b):
            database.run_sync(queries.update_tails, [(metric.uid, 10, 600)])
        now = 60 * 6 + DAY_S
        with mock.patch.object(metric_garbage_collector, "ROWS_AT_ONCE", 4):
            parts = list(collect(database, now, threshold_days=1, keep=3))
        assert (sum(parts), max(parts)) == (10, 4)
        assert [rowid for rowid, _, _ in rows_of(database, "b")] == [6, 7, 8, 9, 10]
        assert database.run_sync(queries.first_values, a.uid, 3) == [6.0, 7.0, 8.0]

    def test_rows_that_a_model_may_still_need_stay_however_old_they_are(self, database: Database) -> None:
        database.run_sync(store_batches, [SampleBatch([f"m {n} {60 * n}" for n in range(1, 21)])], OPTIONS, 1e9, [])
        metric = database.run_sync(queries.find_metric, "m")
        left = []
        for scored in (0, 12, 20):
            database.run_sync(counts.save_scores, [MetricScore(metric.uid, 1, scored, scored)])
            assert list(collect(database, 10 * DAY_S, threshold_days=1, keep=5)) in ([0], [7], [8])
            left.append(rows_of(database, "m")[0][0])
        assert left == [1, 8, 16]
        trouble = f"{CHECKPOINTS_REFUSED}: the disk is full"
        database.run_sync(troubles.replace, "worker 0", [trouble], 0)
        assert list(collect(database, 10 * DAY_S, threshold_days=1, keep=1)) == [0]
        database.run_sync(troubles.replace, "worker 0", [], 0)
        assert list(collect(database, 10 * DAY_S, threshold_days=1, keep=1)) == [4]

    def test_late_and_loaded_samples_become_rows_in_the_order_of_time(self, database: Database) -> None:
        def store(*minutes: int, due: tuple[str, ...] = (), now: float = 1e6) -> None:
            batch = SampleBatch([f"m {minute} {60 * minute}" for minute in minutes])
            database.run_sync(lambda conn: store_batches(conn, [batch], OPTIONS, now, [], due=due))

        store(*range(10, 30))
        store(40, 41)
        store(15, 5, 7)
        assert database.run_sync(late_samples.metrics_due, 1e6 + 60, 10) == ["m"]
        store(due=("m",), now=1e6 + 60)
        uid = database_uid(database, "m")
        verdict = {"rule": "r", "uid": uid, "kind": "", "timestamp": 0, "height": 9.0, "verdict": "page"}
        verdicts = [verdict | {"rowid": rowid} for rowid in (1, 2, 3)]
        database.run_sync(lambda conn: conn.execute(schema.alarm_verdict.insert(), verdicts))
        database.run_sync(joining.stage, uid, [(60 * minute, float(minute)) for minute in (1, 12, 35)])
        done, _ = database.run_sync(
            lambda conn: custom.rebuild_metric(conn, queries.find_metric(conn, "m", lock=True), 5, 1_000_000)
        )
        assert (done.joined, done.duplicates) == (4, 0)
        minutes = [1, 5, 7, *range(10, 30), 35, 40, 41]
        assert rows_of(database, "m") == [(place, 60 * at, at) for place, at in enumerate(minutes, 1)]
        moved = select(schema.alarm_verdict.c.rowid).order_by(schema.alarm_verdict.c.rowid)
        assert database.run_sync(lambda conn: list(conn.execute(moved).scalars())) == [4, 5, 6]
        ledger = database.run_sync(read_ledger, None)
        assert (ledger.adds_up, ledger.rejected) == (True, {"timestamp_duplicate": 1})

    def test_late_samples_take_the_places_of_rows_that_fill_gaps(self, database: Database) -> None:
        gaps = GapRules(["hold 3 *"])

        def store(*minutes: int) -> None:
            batch = SampleBatch([f"m {minute} {60 * minute}" for minute in minutes])
            options = replace(OPTIONS, gaps=gaps, late_window=LateWindow(0, 0))
            database.run_sync(store_batches, [batch], options, 1e6, [])

        store(*range(20))
        store(23, 24)
        held = [(place, 60 * (place - 1), 19) for place in (20, 21, 22, 23)]
        assert rows_of(database, "m")[19:] == [*held, (24, 1380, 23), (25, 1440, 24)]
        store(21)
        database.run_sync(
            lambda conn: custom.rebuild_metric(
                conn, queries.find_metric(conn, "m", lock=True), 5, 1_000_000, JoinRules(gaps=gaps)
            )
        )
        assert rows_of(database, "m")[20:23] == [(21, 1200, 19), (22, 1260, 21), (23, 1320, 21)]
        ledger = database.run_sync(read_ledger, None)
        assert (ledger.adds_up, ledger.filled, ledger.late) == (True, 2, 0)

    def test_the_last_rejects_of_a_reason_are_kept(self, database: Database) -> None:
        given = [Reject("not_utf8", f"web;host=指{n} \0\x1b", "2001:db8::1") for n in range(30)]
        database.run_sync(rejects.add, given[:15], 60)
        database.run_sync(rejects.add, given[15:], 120)
        kept = database.run_sync(rejects.list_of, "not_utf8")
        assert [each.line for each in kept] == [f"web;host=指{n} \\x00\\x1b" for n in range(29, 9, -1)]
        assert (kept[0].sender, kept[0].rejected_at) == ("2001:db8::1", 120)

    def test_a_deleted_metric_leaves_nothing(self, database: Database) -> None:
        database.run_sync(store_batches, [SampleBatch([f"m {n} {60 * n}" for n in range(1, 10)])], OPTIONS, 1e9, [])
        database.run_sync(queries.save_states, [queries.AnomalyState(database_uid(database, "m"), 1, 9, b"\0" * 9)])
        database.run_sync(lambda conn: custom.delete_metric(conn, queries.find_metric(conn, "m", lock=True)))
        for table in (schema.metric, schema.metric_data, schema.anomaly_state, schema.metric_score):
            assert database.run_sync(lambda conn, table=table: conn.execute(select(table)).all()) == []

    def test_of_several_readers_of_the_results_one_has_its_turn(self, database: Database) -> None:
        first = database.run_sync(result_readers.take_turn, "r", None, 1e9, 10.0)
        assert first == (0, 1_000_000_010_000)
        assert database.run_sync(result_readers.take_turn, "r", None, 1e9 + 9, 10.0) is None
        first = database.run_sync(result_readers.advance, "r", first, 7)
        second = database.run_sync(result_readers.take_turn, "r", None, 1e9 + 11, 10.0)
        assert (first.number, second.number) == (7, 7)
        assert database.run_sync(result_readers.advance, "r", first, 8) is None
        assert database.run_sync(result_readers.advance, "r", second, 7) == second
        database.run_sync(result_readers.end_turn, "r", second)
        assert database.run_sync(result_readers.take_turn, "r", None, 1e9 + 12, 10.0).number == 7

    def test_ids_of_the_outbox_are_never_used_again(self, database: Database) -> None:
        first = database.run_sync(queries.add_outbox, [("q", b"\0\xff"), ("q", b"2")])
        assert database.run_sync(queries.pending_outbox) == first
        database.run_sync(queries.delete_outbox, [message.id for message in first])
        [third] = database.run_sync(queries.add_outbox, [("q", b"3")])
        assert third.id > max(message.id for message in first)

    def test_what_is_read_as_of_now_is_of_one_moment(self, url: str, database: Database) -> None:
        other = Database(url)

        def read(conn: Connection) -> tuple[int, int]:
            engine.as_of_now(conn)
            before = len(queries.list_metrics(conn))
            create(other, "b")
            return before, len(queries.list_metrics(conn))

        create(database, "a")
        assert database._read(read) == (1, 1)
        other.close()


def database_uid(database: Database, name: str) -> str:
    return database.run_sync(queries.find_metrics, [name])[name].uid


class TestStorers:
    """The storer's transaction, from several processes at a time (threads here, with connections of their own)."""

    def test_two_storers_store_every_sample_once(self, url: str) -> None:
        """They get the same new names and, as after a lost connection, some of the same batches."""
        names = [f"metric.{n}" for n in range(40)]
        batches = [
            SampleBatch(
                [f"{name} {at} {60 * at}" for name in names for at in range(4 * n + 1, 4 * n + 5)], f"batch-{n}"
            )
            for n in range(10)
        ]

        def storer() -> int:
            database = Database(url)
            stored = sum(database.run_sync(store_batches, [batch], OPTIONS, 1e9, []).stored for batch in batches)
            database.close()
            return stored

        assert sum(at_once(storer, storer, storer)) == len(names) * 40
        database = Database(url)
        for name in names:
            assert rows_of(database, name) == [(n, 60 * n, float(n)) for n in range(1, 41)]
        assert database.run_sync(counts.get_rejects) == {}
        assert database.run_sync(counts.get_totals)[counts.RECEIVED] == len(names) * 40
        assert len(database.run_sync(queries.list_metrics)) == len(names)
        database.close()

    def test_a_label_set_of_4_kb_is_stored_found_and_shown(self, database: Database) -> None:
        labels = {f"label{n:02}": f"{'größe-𝄞.' * 6}{n}" for n in range(45)}
        texts = {value: compose("requests", labels | {"last": f"v{value}"}) for value in (1.0, 2.0)}
        assert all(3900 < len(long.encode()) <= MAX_TEXT_BYTES for long in texts.values())
        for minute in (1, 2):  # a new metric, and one that is known
            batch = SampleBatch([f"{long} {value} {60 * minute}" for value, long in texts.items()])
            assert database.run_sync(store_batches, [batch], OPTIONS, 1e9, []).rejected == {}
        for value, long in texts.items():
            assert rows_of(database, identity(long)) == [(1, 60, value), (2, 120, value)]
            for search in (f"last=v{value}", f'{{label44=~".*44",last="v{value}"}}'):
                [row] = database.run_sync(reading.page_of_metrics, MetricQuery(search), None, 10)
                shown = metric_json(row)
                assert (shown["name"], shown["text"], shown["rows"]) == (identity(long), long, 2), search

    def test_a_model_is_defined_once_however_many_want_it(self, url: str) -> None:
        database = Database(url)
        database.run_sync(store_batches, [SampleBatch(["m 1 60"])], OPTIONS, 1e9, [])
        spec = ModelSpec.for_name("m", min=0, max=10)

        def monitor() -> None:
            other = Database(url)
            other.run_sync(custom.monitor_metric, spec, 5)
            other.close()

        at_once(monitor, monitor, monitor)
        assert database.run_sync(queries.find_metrics, ["m"])["m"].definition.generation == 3
        database.close()

    def test_of_two_who_create_the_same_metric_one_is_told_that_it_exists(self, url: str) -> None:
        ready = threading.Barrier(2)

        def create_it() -> Any:
            database = Database(url)
            ready.wait(30)
            try:
                return database.run_sync(custom.create_metric, ModelSpec.for_name("m"))
            except MetricExists as error:
                return error
            finally:
                database.close()

        outcomes = at_once(create_it, create_it)
        assert {type(outcome) for outcome in outcomes} == {Metric, MetricExists}


class TestErrors:
    """On the servers: SQLite has one writer and no connection to lose."""

    @pytest.fixture(params=["mariadb", "postgresql"])
    def server(self, request: pytest.FixtureRequest) -> Any:
        return request.getfixturevalue(request.param)

    @pytest.fixture
    def database(self, server: Any) -> Iterator[Database]:
        url = server.new_database()
        migrations.upgrade(url)
        opened = Database(url)
        yield opened
        opened.close()

    def test_the_victim_of_a_deadlock_tries_again(self, database: Database) -> None:
        metrics = create(database, "a", "b")
        met = threading.Barrier(2)
        tries = []

        def change(conn: Connection, first: str, second: str) -> None:
            tries.append(first)
            queries.set_status(conn, first, MetricStatus.ERROR, first)
            if len(tries) <= 2:
                met.wait(30)
            queries.set_status(conn, second, MetricStatus.ERROR, first)

        a, b = (metric.uid for metric in metrics)
        at_once(lambda: database.run_sync(change, a, b), lambda: database.run_sync(change, b, a))
        assert len(tries) == 3
        assert len({metric.message for metric in database.run_sync(queries.list_metrics)}) == 1

    def test_who_waits_too_long_for_a_lock_tries_again(self, server: Any, database: Database) -> None:
        [metric] = create(database, "a")
        held, tries = threading.Event(), []

        def hold(conn: Connection) -> None:
            queries.set_status(conn, metric.uid, MetricStatus.ERROR, "held")
            held.set()
            time.sleep(1.5)

        def change(conn: Connection) -> None:
            tries.append(1)
            mysql = conn.dialect.name == "mysql"
            conn.exec_driver_sql("SET innodb_lock_wait_timeout = 1" if mysql else "SET lock_timeout = '1s'")
            queries.set_status(conn, metric.uid, MetricStatus.ACTIVE, None)

        at_once(lambda: database.run_sync(hold), lambda: held.wait(30) and database.run_sync(change))
        assert len(tries) > 1
        assert database.run_sync(queries.get_metric, metric.uid).status is MetricStatus.ACTIVE

    def test_an_error_that_does_not_pass_is_raised_at_once(self, database: Database) -> None:
        began = time.monotonic()
        with pytest.raises(Exception, match="no_such_table"):
            database.run_sync(lambda conn: conn.exec_driver_sql("SELECT * FROM no_such_table"))
        assert time.monotonic() - began < 2


class ServerTests(TestCase):
    """A server that goes away while services use it."""

    timeout = 60

    server: Any

    @pytest.fixture(autouse=True)
    def _server(self, mariadb: MariaDB) -> None:
        self.server = mariadb

    def end_connections(self) -> None:
        for line in self.server.sql("SELECT id FROM information_schema.processlist WHERE db LIKE 'test%'").split():
            self.server.sql(f"KILL {line}")

    def setUp(self) -> None:
        url = self.server.new_database()
        migrations.upgrade(url)
        self.database = Database(url, reactor=reactor)
        self.addCleanup(self.database.close)

    def wait_until(self, condition: Callable[[], Any], what: str) -> Deferred[Any]:
        return deferToThread(wait_for, condition, what, 30)

    async def test_a_transaction_whose_connection_is_ended_is_done_again(self) -> None:
        tries = []

        def change(conn: Connection) -> None:
            tries.append(1)
            queries.add_batches(conn, [f"try {len(tries)}"], 0)
            if len(tries) == 1:
                self.end_connections()
            queries.add_batches(conn, ["end"], 0)

        await self.database.run(change)
        known = await self.database.read(queries.known_batches, ["try 1", "try 2", "end"])
        self.assertEqual(known, {"try 2", "end"})

    async def test_idle_connections_that_were_ended_are_replaced(self) -> None:
        await self.database.run(queries.add_batches, ["a"], 0)
        self.end_connections()
        self.assertEqual(await self.database.read(queries.known_batches, ["a"]), {"a"})
        self.assertFalse(self.database.away)

    async def test_while_the_server_is_away_the_intake_pauses_and_nothing_is_lost(self) -> None:
        bus = MemoryBus()
        bus.startService()
        storer = MetricStorer(
            clock=reactor,
            bus=bus,
            database=self.database,
            options=OPTIONS,
            on_failure=self.fail,
        )
        storer.startService()
        await self.publish(bus, range(1, 101))
        await self.wait_until(lambda: storer.stored == 100, "the first samples")
        self.server.kill()
        for first in range(101, 501, 100):
            await self.publish(bus, range(first, first + 100))
        await self.wait_until(lambda: self.database.away, "the database to be missed")
        self.assertEqual(await bus.depth(OPTIONS.samples_queue), 4)
        self.assertEqual(len(self.flushLoggedErrors()), 0)
        self.server.start()  # not in a thread, with which it would die
        await self.wait_until(lambda: storer.stored == 500, "the other samples")
        self.assertFalse(self.database.away)
        uid = (await self.database.read(queries.find_metrics, ["m"]))["m"].uid
        rows = await self.database.read(queries.get_rows, uid, 0, 1000)
        self.assertEqual([(row.rowid, row.value) for row in rows], [(n, float(n)) for n in range(1, 501)])
        await storer.stopService()
        await bus.stopService()

    async def publish(self, bus: MemoryBus, numbers: range) -> None:
        body = encode_samples(SampleBatch([f"m {n} {60 * n}" for n in numbers], f"batch-{numbers.start}"))
        await bus.declare_queue(OPTIONS.samples_queue)
        await bus.publish(OPTIONS.samples_queue, [body])

    async def test_who_stops_does_not_wait_for_a_server_that_is_away(self) -> None:
        self.server.kill()
        waiting = ensureDeferred(self.database.run(queries.add_batches, ["a"], 0))
        await self.wait_until(lambda: self.database.away, "the database to be missed")
        self.database.stop_waiting()
        with self.assertRaises(DatabaseClosed):
            await waiting
        self.server.start()  # not in a thread, with which it would die


class PostgreSQLTests(ServerTests):
    @pytest.fixture(autouse=True)
    def _server(self, postgresql: PostgreSQL) -> None:
        self.server = postgresql

    def end_connections(self) -> None:
        self.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'")


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_init_makes_database_and_user(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: MariaDB | PostgreSQL = request.getfixturevalue({"mysql": "mariadb"}.get(kind, kind))
    administrator = {**os.environ, "HTMENGINE_ADMIN_URL": server.new_database()}
    htmengine, folder = [sys.executable, "-m", "htmengine.cli.main"], tmp_path / "engine"
    options = ["--database", kind, "--database-host", "127.0.0.1", "--database-port", str(server.port)]
    command = [*htmengine, "init", str(folder), "--distributed", *options, "--broker-port", "1", "--name", "new-engine"]
    shown = subprocess.run(command, env=administrator, capture_output=True, text=True, check=True).stdout.splitlines()
    assert shown[1:3] == ["making the database: ok", "database: ok"]
    assert shown[3].startswith("broker: not yet: RabbitMQ at localhost:1 does not answer")
    assert "database.sql" not in "".join(shown[4:])
    upgraded = subprocess.run([*htmengine, "db", "upgrade", "--config", str(folder)], capture_output=True, check=True)
    assert upgraded.stdout == b"the schema is up to date\n"
    command[command.index(str(folder))] = str(tmp_path / "second")
    shown = subprocess.run(command, env=administrator, capture_output=True, text=True, check=True).stdout.splitlines()
    assert shown[1] == "making the database: ok"
    if kind == "mysql":  # the tests' PostgreSQL asks for no password
        assert shown[2].startswith("database: not yet:")
        assert (
            shown[3]
            == "  was the user new-engine there before? Then the password in application.conf is not the user's"
        )
