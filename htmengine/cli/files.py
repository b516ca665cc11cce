# SPDX-License-Identifier: MIT
"""``htmengine score`` and ``htmengine replay``: CSV files without and with an engine."""

from __future__ import annotations

import csv
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import click
from tqdm import tqdm

from htmengine.cli.common import example, failing_cleanly
from htmengine.cli.load import left_out, timestamp_option, value_option
from htmengine.csv_files import Columns, Notes, format_timestamp, read_rows
from htmengine.errors import HtmEngineError
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.offline import CHUNK_ROWS, Accepted, accept, params_for, score_rows

CSV_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@click.command(epilog=example("htmengine score cpu.csv --min 0 --max 100 -o scores.csv"))
@click.argument("file", type=CSV_FILE)
@click.option("--min", "minimum", type=float, help="Least value to expect (with --max).")
@click.option("--max", "maximum", type=float, help="Greatest value to expect (with --min).")
@click.option(
    "--evidence",
    type=click.Choice(["all", "sequence"]),
    default="all",
    show_default=True,
    help="What scores come from; sequence: HTM Engine's scores.",
)
@click.option("--pending-samples", default=288, show_default=True, help="Samples that define the range without --min.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of standard output.")
@timestamp_option
@value_option
@failing_cleanly
def score(
    file: Path,
    minimum: float | None,
    maximum: float | None,
    evidence: str,
    pending_samples: int,
    output: Path | None,
    timestamp: str,
    value: str,
) -> None:
    """Score a series without an engine, with exactly the scores of an engine.

    FILE is CSV, also compressed by gzip, or - for standard input; its rows may be in any order.  Columns of the output:
    timestamp, value, raw_anomaly_score, anomaly_score.  Rows that the engine would reject are left out and counted on
    standard error.
    """
    if (minimum is None) != (maximum is None):
        raise click.UsageError("--min and --max go together")
    notes = Notes()
    accepted = accept(read_rows(file, Columns(timestamp, value), notes))
    params = params_for(accepted.values, minimum, maximum, pending_samples)
    if params is None:
        raise HtmEngineError(
            f"{len(accepted.values)} rows{_rejected(accepted)}; without --min and --max the first {pending_samples} "
            "define the range"
        )
    score_next = partial(score_rows, Model(params), detector_for(params), sequence_only=evidence == "sequence")
    with click.open_file(str(output or "-"), "w", atomic=output is not None) as out:
        _write_scores(out, accepted, score_next)
    for line in left_out(accepted, notes):
        click.echo(line, err=True)


def _rejected(accepted: Accepted) -> str:
    """What was rejected, as a part of a sentence; nothing if all rows are good."""
    parts = [f"{count} {reason}" for reason, count in sorted(accepted.rejected.items())]
    return f" ({', '.join(parts)} rejected)" if parts else ""


def _write_scores(
    out: IO[str],
    accepted: Accepted,
    score_next: Callable[[Sequence[int], Sequence[float]], list[tuple[float, float]]],
) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["timestamp", "value", "raw_anomaly_score", "anomaly_score"])
    total = len(accepted.timestamps)
    with tqdm(total=total, unit="row", disable=not sys.stderr.isatty()) as progress:
        for at in range(0, total, CHUNK_ROWS):
            timestamps = accepted.timestamps[at : at + CHUNK_ROWS]
            values = accepted.values[at : at + CHUNK_ROWS]
            scores = score_next(timestamps, values)
            for timestamp, value, (raw, anomaly) in zip(timestamps, values, scores, strict=True):
                writer.writerow([format_timestamp(timestamp), repr(value), repr(raw), repr(anomaly)])
            progress.update(len(timestamps))


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
