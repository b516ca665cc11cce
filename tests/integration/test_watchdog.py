# SPDX-License-Identifier: MIT
"""On RabbitMQ, with the fixes of three faults taken out: what stands still is told by name, everywhere.

A batch for which there is never room, an application that went away and whose full queue is waited for, a consumer
that RabbitMQ cancelled: each once stopped a service for good, in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pika
import pytest

from tests.support.distributed import MODULES, QUICK, DistributedEngine, distributed_engine
from tests.support.engine import START, lines, wait_for
from tests.support.old_faults import (
    cancelled_consumers_are_not_told,
    full_queues_hold_up_broadcasts,
    no_room_in_an_empty_queue,
    start_with,
)
from tests.support.servers import MariaDB, RabbitMQ, free_port

FAULTS = {
    "listener": no_room_in_an_empty_queue,
    "anomaly": full_queues_hold_up_broadcasts,
    "storer": cancelled_consumers_are_not_told,
}
OPTION = "HTMENGINE__APPLICATION__TELEMETRY__"


@pytest.fixture
def ports() -> dict[str, int]:
    """Where each service tells about itself."""
    return {service: free_port() for service in FAULTS}


@pytest.fixture
def engine(tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB, ports: dict[str, int]) -> Iterator[DistributedEngine]:
    options = {f"{OPTION}{service.upper()}_PORT": str(port) for service, port in ports.items()}
    with distributed_engine(
        tmp_path / "engine",
        rabbitmq_port=rabbitmq.port,
        database_url=mariadb.new_database(),
        options={**QUICK, **options, f"{OPTION}STALLED_S": "2"},
        start=start_with({MODULES[service]: fault for service, fault in FAULTS.items()}),
    ) as engine:
        yield engine


def test_what_stands_still_is_told_by_name_everywhere(
    engine: DistributedEngine, ports: dict[str, int], rabbitmq: RabbitMQ
) -> None:
    samples, exchange, gone = (f"{engine.names}.{name}" for name in ("samples", "results", "gone"))
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", rabbitmq.port, heartbeat=0)) as connection:
        channel = connection.channel()
        engine.start_all("storer", "scheduler", "anomaly", "web", "listener")
        engine.send(lines(1, 1, metrics=1))
        assert_told(engine, "listener", ports, f"publishing to queue '{samples}' waits for room in it since")

        channel.exchange_declare(exchange, "fanout", durable=True)
        channel.queue_declare(gone, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.queue_bind(gone, exchange)
        post(engine, 40)
        assert_told(engine, "anomaly", ports, f"publishing to exchange '{exchange}' since")

        channel.queue_delete(samples)
        channel.queue_declare(samples, durable=True)
        post(engine, 1)
        assert_told(engine, "storer", ports, f"queue '{samples}' has messages and no reader since")


def post(engine: DistributedEngine, rows: int) -> None:
    """Samples by HTTP: the listener stands still."""
    samples = [{"metric": "m0", "value": row % 7, "timestamp": START + 60 * row} for row in range(rows)]
    httpx.post(f"{engine.url}/api/v1/samples", json={"samples": samples}, timeout=60).raise_for_status()


def assert_told(engine: DistributedEngine, service: str, ports: dict[str, int], what: str) -> None:
    """In the service's log, as a trouble of the engine, by the service's readiness and as its figure."""
    wait_for(lambda: f"stands still: {what}" in engine.log(service), f"{what!r} in the log")
    wait_for(lambda: any(what in message for (message,) in engine.query("SELECT message FROM trouble")), "a trouble")
    ready = get(ports[service], "readyz")
    assert '"degraded"' in ready
    assert what in ready
    figures = dict(
        line.split() for line in get(ports[service], "metrics").splitlines() if line[:1] != "#" and " " in line
    )
    assert float(figures["htmengine_stalled"]) >= 1


def get(port: int, path: str) -> str:
    """An answer of any status."""
    return httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=30).text
