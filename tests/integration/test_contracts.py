# SPDX-License-Identifier: MIT
"""A program that knows HTM Engine's contracts only: queues, exchange, bodies and tables, by pika and plain SQL."""

from __future__ import annotations

import contextlib
import json
import zlib
from pathlib import Path
from typing import Any

import pika
import pymysql
from sqlalchemy import make_url

from htmengine import message_schemas
from tests.support.distributed import QUICK, distributed_engine
from tests.support.engine import wait_for
from tests.support.servers import MariaDB, RabbitMQ

ROWS = 120
START = 1_435_831_200


def test_a_program_written_against_htm_engine(tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB) -> None:
    url = mariadb.new_database()
    with contextlib.ExitStack() as running:
        engine = running.enter_context(
            distributed_engine(tmp_path / "engine", rabbitmq_port=rabbitmq.port, database_url=url, options=QUICK)
        )
        engine.start_all("storer", "scheduler", "anomaly")
        credentials = pika.PlainCredentials("guest", "guest")
        connection = running.enter_context(
            pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", rabbitmq.port, credentials=credentials))
        )
        channel = connection.channel()
        samples_queue, exchange = f"{engine.names}.samples", f"{engine.names}.results"
        wait_for(lambda: exchange in rabbitmq.control("list_exchanges", "name"), "the results exchange")
        channel.queue_declare("my.program", durable=True)
        channel.queue_bind("my.program", exchange)

        for first in range(0, ROWS, 40):
            data = [f"my.metric {row % 9}.5 {START + 300 * row}" for row in range(first, first + 40)]
            body = json.dumps({"protocol": "plain", "data": data})
            properties = pika.BasicProperties(delivery_mode=2)
            channel.basic_publish("", samples_queue, body, properties)
        channel.basic_publish("", samples_queue, "no JSON")
        channel.basic_publish("", samples_queue, json.dumps({"protocol": "plain", "data": ["one bad line", 5]}))

        rows, commands = follow(channel)
        uid, status = check_tables(url, rows)
        assert status == 1
        [command] = commands
        assert (command["method"], command["modelId"], command["status"]) == ("defineModel", uid, 0)
        assert command["modelInfo"]["metricName"] == "my.metric"
        channel.queue_delete("my.program")


def follow(channel: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and commands' results from the program's own queue, until all rows have come."""
    rows: list[dict[str, Any]] = []
    commands: list[dict[str, Any]] = []
    for method, properties, body in channel.consume("my.program", inactivity_timeout=60):
        assert method is not None, f"{len(rows)} rows only"
        assert properties.delivery_mode == 2
        message = json.loads(zlib.decompress(body))
        if (properties.headers or {}).get("dataType") == "model-cmd-result":
            message_schemas.validate("model_command_result", message)
            commands.append(message)
        else:
            message_schemas.validate("model_inference_results", message)
            assert message["metric"]["name"] == "my.metric"
            rows += message["results"]
        channel.basic_ack(method.delivery_tag)
        if len(rows) >= ROWS:
            break
    channel.cancel()
    return rows, commands


def check_tables(url: str, rows: list[dict[str, Any]]) -> tuple[str, int]:
    """The tables say what was broadcast; returns the metric's uid and status."""
    place = make_url(url)
    database = pymysql.connect(
        host=place.host, port=place.port or 0, user=place.username, database=place.database, autocommit=True
    )
    with database, database.cursor() as cursor:
        cursor.execute("SELECT uid, status, last_rowid, datasource FROM metric WHERE name = 'my.metric'")
        uid, status, last_rowid, datasource = cursor.fetchone() or ()
        assert (last_rowid, datasource) == (ROWS, "custom")
        cursor.execute(
            "SELECT rowid, UNIX_TIMESTAMP(CONVERT_TZ(timestamp, '+00:00', @@session.time_zone)), metric_value,"
            " raw_anomaly_score, anomaly_score FROM metric_data WHERE uid = %s ORDER BY rowid",
            (uid,),
        )
        stored = [(row[0], int(row[1]), *row[2:]) for row in cursor.fetchall()]
    broadcast = [(row["rowid"], row["ts"], row["value"], row["rawAnomaly"], row["anomaly"]) for row in rows]
    assert stored == broadcast
    assert [(rowid, ts, value) for rowid, ts, value, *_ in stored] == [
        (row + 1, START + 300 * row, row % 9 + 0.5) for row in range(ROWS)
    ]
    return uid, status
