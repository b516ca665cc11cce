# SPDX-License-Identifier: MIT
"""``htmengine replay``: a CSV file through an engine's port."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from tqdm import tqdm

from htmengine.cli.common import example, failing_cleanly
from htmengine.csv_files import read_rows
from htmengine.errors import HtmEngineError

CSV_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@click.command(epilog=example("htmengine replay cpu.csv --metric web1.cpu --speed 3600"))
@click.argument("file", type=CSV_FILE)
@click.option("--metric", required=True, help="The metric's name.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=2003, show_default=True, help="The engine's Graphite port.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time; default: as fast as possible."
)
@failing_cleanly
def replay(file: Path, metric: str, host: str, port: int, speed: float | None) -> None:
    """Send a CSV file through an engine's Graphite port."""
    rows = list(read_rows(file))
    try:
        sent = send_rows(rows, metric, host, port, speed)
    except OSError as error:
        raise HtmEngineError(f"{host}:{port}: {error}") from None
    click.echo(f"{sent} rows sent")


def send_rows(
    rows: Sequence[tuple[float, float]], metric: str, host: str, port: int, speed: float | None = None
) -> int:
    """Send (timestamp, value) rows with a progress bar, and wait until the engine has read them all."""
    with socket.create_connection((host, port)) as connection, connection.makefile("wb") as lines:
        started = time.monotonic()
        for timestamp, value in tqdm(rows, unit="row", disable=not sys.stderr.isatty()):
            if speed is not None:
                lines.flush()
                due = started + (timestamp - rows[0][0]) / speed
                time.sleep(max(0.0, due - time.monotonic()))
            lines.write(f"{metric} {value!r} {timestamp!r}\n".encode())
        lines.flush()
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the engine closes when it has read the last line
    return len(rows)
