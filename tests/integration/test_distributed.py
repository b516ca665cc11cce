# SPDX-License-Identifier: MIT
"""The services as processes of their own, on real servers: what they need, and what they survive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pika
import pytest

from tests.support import processes
from tests.support.distributed import MODULES, QUICK, DistributedEngine, distributed_engine
from tests.support.engine import lines, wait_for
from tests.support.senders import Collectd
from tests.support.servers import MariaDB, PostgreSQL, RabbitMQ, free_port


@pytest.fixture
def broker() -> Iterator[RabbitMQ]:
    """One that this test may kill."""
    with RabbitMQ() as server:
        yield server


@pytest.fixture(params=[MariaDB, PostgreSQL])
def database(request: pytest.FixtureRequest) -> Iterator[MariaDB | PostgreSQL]:
    """One that this test may kill."""
    with request.param() as server:
        yield server


@pytest.fixture
def engine(tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB) -> Iterator[DistributedEngine]:
    with distributed_engine(
        tmp_path / "engine",
        rabbitmq_port=rabbitmq.port,
        database_url=mariadb.new_database(),
        options=QUICK,
        start=processes.start,
    ) as made:
        yield made


@pytest.mark.parametrize("module", MODULES.values())
def test_services_say_that_they_need_a_configuration(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "APPLICATION_CONFIG_PATH"}
    ended = subprocess.run([sys.executable, "-m", module], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        "htmengine: APPLICATION_CONFIG_PATH must name the folder with"
        " application.conf, model-swapper.conf, model-checkpoint.conf, rabbitmq.conf\n"
    )


def test_collectds_amqp_plugin(engine: DistributedEngine, rabbitmq: RabbitMQ) -> None:
    exchange = f"{engine.names}.collectd"
    engine.start("listener", HTMENGINE__APPLICATION__METRIC_LISTENER__AMQP_EXCHANGE=exchange)
    engine.start("storer")
    wait_for(lambda: f"reading lines from the exchange {exchange}" in engine.log("listener"), "the exchange")
    where = f'Host "127.0.0.1"\nPort "{rabbitmq.port}"\nExchange "{exchange}"\nFormat "Graphite"'
    with Collectd("amqp", f'<Publish "htmengine">\n{where}\n</Publish>'):
        load = "SELECT count(*) FROM metric_data JOIN metric USING (uid) WHERE name = 'web1.load.load.shortterm'"
        wait_for(lambda: engine.query(load)[0][0] > 2, "the machine's load")


def test_carbons_publisher_has_the_name_in_the_routing_key(engine: DistributedEngine, rabbitmq: RabbitMQ) -> None:
    exchange = f"{engine.names}.graphite"
    engine.start(
        "listener",
        HTMENGINE__APPLICATION__METRIC_LISTENER__AMQP_EXCHANGE=exchange,
        HTMENGINE__APPLICATION__METRIC_LISTENER__AMQP_EXCHANGE_TYPE="topic",
        HTMENGINE__APPLICATION__METRIC_LISTENER__AMQP_NAME_IN_BODY="no",
    )
    engine.start("storer")
    wait_for(lambda: f"reading lines from the exchange {exchange}" in engine.log("listener"), "the exchange")
    sample = ("web1.load", "0.5", "1400000000")
    command = [sys.executable, "-W", "ignore", "-m", "carbon.amqp_publisher", "-t", "127.0.0.1"]
    subprocess.run([*command, "-p", str(rabbitmq.port), "-e", exchange, *sample], check=True, timeout=60)
    stored = "SELECT name, metric_value FROM metric_data JOIN metric USING (uid)"
    wait_for(lambda: engine.query(stored) == [("web1.load", 0.5)], "the sample")


def test_samples_become_scores_and_a_stop_is_orderly(engine: DistributedEngine) -> None:
    engine.start_all()
    engine.send(lines(1, 60, metrics=5))
    engine.wait_until_scored(300)
    status = json.loads(engine.command("status", "--json"))
    assert status["lengths"] == {"samples": 0, "model_input": 0, "results": 0}
    assert (status["schedulers"], status["metrics"], status["waiting"]) == (1, {"ACTIVE": 5}, 0)
    assert "Model Scheduler" in engine.command("status")
    assert [engine.stop(name) for name in ("listener", "storer", "scheduler", "anomaly")] == [0, 0, 0, 0]
    assert len(list((engine.folder / "checkpoints").rglob("*.[01]"))) >= 5


def test_names_of_every_length_are_stored_and_scored(engine: DistributedEngine) -> None:
    engine.start_all()
    names = [f"{kind}.{'host-' * 50}"[:length] for length in (62, 70, 200, 255) for kind in ("df", "größe")]
    engine.send(f"{name} {row % 7} {60 * row}" for row in range(1, 301) for name in names)
    engine.wait_until_scored(300 * len(names))
    assert {name for name, *_ in engine.scores()} == set(names)
    assert engine.stop("listener") == 0


def test_queues_that_are_deleted_under_a_running_engine_are_made_and_read_again(
    engine: DistributedEngine, rabbitmq: RabbitMQ
) -> None:
    engine.start_all()
    engine.send(lines(1, 40, metrics=3))
    engine.wait_until_scored(120)
    queues = [line.split()[0] for line in rabbitmq.control("list_queues", "name").splitlines() if engine.names in line]
    assert len(queues) == 7  # samples, four shards, raw scores, schedulers
    for queue in queues:
        rabbitmq.control("delete_queue", queue)
    engine.send(lines(41, 80, metrics=3))
    engine.wait_until_scored(240)
    assert all(process.poll() is None for process in engine.processes.values())
    for queue in ("samples", "raw", "schedulers"):  # a writer or a reader notices it first
        told = f"queue {engine.names}.{queue} is gone"
        wait_for(lambda told=told: any(told in engine.log(service) for service in engine.processes), told)


def test_a_samples_queue_that_another_program_made_differently_is_told_as_what_it_is(
    engine: DistributedEngine, rabbitmq: RabbitMQ
) -> None:
    queue = f"{engine.names}.samples"
    troubles = "SELECT message FROM trouble WHERE source LIKE 'queues of %'"
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", rabbitmq.port)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=False)
        assert engine.start("storer").wait(60) == 1
        assert f"queue '{queue}' is not durable" in engine.log("storer")
        assert "ReactorNotRunning" not in engine.log("storer")
        channel.queue_delete(queue)
        channel.queue_declare(queue, durable=True, arguments={"x-max-length": 7})
    engine.start("storer")
    wait_for(lambda: "exists with other arguments" in str(engine.query(troubles)), "the trouble")
    assert "exists with other arguments" in engine.log("storer")
    rabbitmq.control("delete_queue", queue)  # it is made again as it should be
    wait_for(lambda: engine.query(troubles) == [], "the end of the trouble", 90)
    assert engine.stop("storer") == 0


def test_a_broker_that_hangs_is_told_by_the_listener_loses_nothing_and_holds_up_no_end(
    tmp_path: Path, broker: RabbitMQ, mariadb: MariaDB
) -> None:
    port, section = free_port(), "HTMENGINE__APPLICATION__TELEMETRY__"
    options = {**QUICK, f"{section}STALLED_S": "2", f"{section}LISTENER_PORT": str(port)}
    troubles = "SELECT message FROM trouble WHERE source LIKE 'MetricListener%'"
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=broker.port, database_url=mariadb.new_database(), options=options
    ) as engine:
        engine.start_all()
        engine.send(lines(1, 30, metrics=5))
        engine.wait_until_scored(150)
        told = f"publishing to queue '{engine.names}.samples'"
        with broker.suspended():
            engine.send(lines(31, 60, metrics=5))  # the listener takes them
            wait_for(lambda: told in str(engine.query(troubles)), "the trouble")
            assert f"stands still: {told}" in engine.log("listener")
            ready = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30)
            assert (ready.status_code, told in ready.text) == (503, True)
            assert "\nhtmengine_stalled 0.0\n" not in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        engine.wait_until_scored(300)
        wait_for(lambda: not engine.query(troubles), "the end of the trouble")
        with broker.suspended():
            engine.send(lines(61, 90, metrics=5))
            began = time.monotonic()
            services = dict(engine.processes)
            for service in services.values():
                service.send_signal(signal.SIGTERM)
            wait_for(lambda: all(each.poll() is not None for each in services.values()), "all services to end")
            assert time.monotonic() - began < 10.0
        assert [(name, rowid) for name, rowid, *_ in engine.scores()] == [
            (f"m{number}", rowid) for number in range(5) for rowid in range(1, 61)
        ]


def test_a_service_refuses_a_schema_that_is_not_up_to_date(engine: DistributedEngine) -> None:
    with engine.changing() as conn:
        conn.exec_driver_sql("DROP TABLE htmengine_version")
    assert engine.start("storer").wait(30) == 1
    assert "run `htmengine db upgrade`" in engine.log("storer")


def test_nothing_is_lost_when_the_broker_starts_late_and_dies_under_load(
    tmp_path: Path, broker: RabbitMQ, mariadb: MariaDB
) -> None:
    broker.stop()
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=broker.port, database_url=mariadb.new_database(), options=QUICK
    ) as engine:
        engine.start_all()
        engine.send(lines(1, 20, metrics=5))  # the listener takes them while there is no broker
        wait_for(lambda: "is away" in engine.log("storer"), "the log to tell of the broker")
        broker.start()
        engine.wait_until_scored(100)
        for part in range(10):
            engine.send(lines(21 + 20 * part, 40 + 20 * part, metrics=5))
            time.sleep(0.1)
            if part == 4:
                broker.kill()
                broker.start()
        engine.wait_until_scored(1100)
        assert [(name, rowid) for name, rowid, *_ in engine.scores()] == [
            (f"m{number}", rowid) for number in range(5) for rowid in range(1, 221)
        ]
        assert engine.query("SELECT SUM(count) FROM reject_count") == [(None,)]
        assert all(process.poll() is None for process in engine.processes.values())


@pytest.mark.parametrize(
    ("limit", "too_much", "enough"),
    [("set_disk_free_limit", str(10**15), str(10**6)), ("set_vm_memory_high_watermark", "0.000001", "0.4")],
    ids=["disk", "memory"],
)
def test_a_broker_that_is_short_of_disk_or_memory_pauses_the_intake_and_nothing_is_lost(
    tmp_path: Path, broker: RabbitMQ, mariadb: MariaDB, limit: str, too_much: str, enough: str
) -> None:
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=broker.port, database_url=mariadb.new_database(), options=QUICK
    ) as engine:
        engine.start_all()
        engine.send(lines(1, 40, metrics=5))
        engine.wait_until_scored(200)
        broker.control(limit, too_much)
        client = threading.Thread(target=engine.send, args=[lines(41, 640, metrics=5)], daemon=True)
        client.start()
        wait_for(lambda: "short of memory or disk" in engine.log("listener"), "the listener to tell of it")
        client.join(1)
        assert client.is_alive(), "the listener reads on"
        assert engine.query("SELECT SUM(last_rowid) FROM metric") == [(200,)]
        broker.control(limit, enough)
        engine.wait_until_scored(3200, 120)
        client.join(60)
        assert not client.is_alive()
        assert "accepts messages again" in engine.log("listener")
        assert [(name, rowid) for name, rowid, *_ in engine.scores()] == [
            (f"m{number}", rowid) for number in range(5) for rowid in range(1, 641)
        ]


def test_nothing_is_lost_when_the_database_dies_under_load(
    tmp_path: Path, rabbitmq: RabbitMQ, database: MariaDB | PostgreSQL
) -> None:
    with distributed_engine(
        tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=database.new_database(), options=QUICK
    ) as engine:
        engine.start_all()
        engine.send(lines(1, 40, metrics=5))
        engine.wait_until_scored(200)
        engine.send(lines(41, 400, metrics=5))
        wait_for(lambda: engine.scored() > 200, "the load")
        database.kill()
        engine.send(lines(401, 440, metrics=5))  # the listener takes them while there is no database
        wait_for(lambda: "the database is away" in engine.log("storer"), "the log to tell of the database")
        database.start()
        engine.wait_until_scored(2200, 120)
        assert [(name, rowid) for name, rowid, *_ in engine.scores()] == [
            (f"m{number}", rowid) for number in range(5) for rowid in range(1, 441)
        ]
        assert engine.query("SELECT SUM(count) FROM reject_count") == [(None,)]
        assert all(process.poll() is None for process in engine.processes.values())
