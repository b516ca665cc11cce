# SPDX-License-Identifier: MIT
"""CSV files of series on the command line: the options of ``load``, ``score`` and ``compare``, and what is left out.

In: options, files.  Out: the rows that an engine would store, the parameters of their model, and lines for people.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from htmengine.csv_files import Columns, Notes, read_rows
from htmengine.errors import HtmEngineError
from htmengine.htm.params import ModelParams
from htmengine.offline.scores import PENDING_SAMPLES, Accepted, ValueRange, accept

T = TypeVar("T")

#: Why rows of files are rejected as a rule.
CAUSES = {
    "timestamp_duplicate": "several series, rows within a second, or a clock set back?",
    "timestamp_future": "another unit, or the clock?",
    "timestamp_out_of_range": "another column?",
}


def _zone(_ctx: click.Context, _param: click.Parameter, name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)  # a system without the zones has UTC
    except (ValueError, OSError, LookupError):  # an unknown name is a LookupError, that of a folder an OSError
        raise click.BadParameter(f"{name!r} is no time zone; one such as Europe/Berlin is allowed") from None


def columns_options(command: Callable[..., T]) -> Callable[..., T]:
    """``--timestamp``, ``--value`` and ``--timezone`` become the argument ``columns``."""

    @click.option("--timestamp", default="timestamp", show_default=True, help="Column of the times.")
    @click.option("--value", default="value", show_default=True, help="Column of the values.")
    @click.option(
        "--timezone", callback=_zone, default="UTC", show_default=True, help="Of times in CSV files that name none."
    )
    @functools.wraps(command)
    def wrapped(*args: Any, timestamp: str, value: str, timezone: tzinfo, **kwargs: Any) -> T:
        return command(*args, columns=Columns(timestamp, value, timezone), **kwargs)

    return wrapped


def range_options(command: Callable[..., T]) -> Callable[..., T]:
    """``--min``, ``--max`` and ``--pending-samples`` become the argument ``values_range``."""

    @click.option("--min", "minimum", type=float, help="Least value to expect in a CSV file (with --max).")
    @click.option("--max", "maximum", type=float, help="Greatest value to expect in a CSV file (with --min).")
    @click.option(
        "--pending-samples",
        default=PENDING_SAMPLES,
        show_default=True,
        help="Samples of a CSV file that define the range without --min.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, minimum: float | None, maximum: float | None, pending_samples: int, **kwargs: Any) -> T:
        try:
            values_range = ValueRange(minimum, maximum, pending_samples)
        except HtmEngineError:
            raise click.UsageError("--min and --max go together") from None
        return command(*args, values_range=values_range, **kwargs)

    return wrapped


def read_series(path: Path, columns: Columns, notes: Notes) -> Accepted:
    """The rows of a file that an engine would store.  Raises `InvalidCsv` and OSError."""
    accepted = accept(read_rows(path, columns, notes))
    notes.check(len(accepted.values))
    return accepted


def params_of(values: Sequence[float], values_range: ValueRange) -> ModelParams:
    """The parameters of the model of rows with these values.  Raises `HtmEngineError` if there are too few of them."""
    params = values_range.params_for(values)
    if not values:
        raise HtmEngineError("0 rows")
    return params


def left_out(rejected: Mapping[str, int], notes: Notes) -> Iterable[str]:
    """What a source had beside good rows, in words."""
    for unit, count in notes.units.items():
        yield f"{count} timestamps taken as {unit}"
    if notes.empty:
        yield f"left out: {notes.empty} rows without a value"
    if notes.unreadable:
        yield f"left out: {notes.unreadable} rows that cannot be read; the first: {notes.problem}"
    for reason, count in sorted(rejected.items()):
        cause = f" ({CAUSES[reason]})" if reason in CAUSES else ""
        yield f"rejected: {count} {reason}{cause}"
