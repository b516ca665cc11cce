# SPDX-License-Identifier: MIT
"""Scores of data frames: pandas, polars, and what else narwhals knows (the extra ``frames``).

In: a frame with a column of times and one of values.  Out: a frame of the same kind with the scores beside them.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from htmengine.csv_files import Notes, seconds
from htmengine.errors import HtmEngineError, TooFewRows
from htmengine.evidence.scoring import detector_for
from htmengine.gaps import SKIP, parse_filling
from htmengine.htm.model import Model
from htmengine.offline.scores import PENDING_SAMPLES, ValueRange, accept, score_rows
from htmengine.process.extras import optional

Frame = TypeVar("Frame")
Floats = NDArray[np.float64]

#: The columns that are added.
RAW, SCORE = "raw_anomaly_score", "anomaly_score"


def score(
    frame: Frame,
    *,
    timestamp: str = "timestamp",
    value: str = "value",
    by: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    pending_samples: int = PENDING_SAMPLES,
    sequence_only: bool = False,
    fill_gaps: str = SKIP,
) -> Frame:
    """The frame with the columns ``raw_anomaly_score`` and ``anomaly_score``, each from 0 to 1: those of an engine.

    ``timestamp`` and ``value`` name columns.  Times are dates and times, UTC if they have no zone, or epoch numbers in
    seconds (large ones in milliseconds, microseconds or nanoseconds).  ``by`` names a column that tells several series
    apart, which are scored each.  ``minimum`` and ``maximum`` are the least and the greatest value to expect; without
    them the first ``pending_samples`` rows of each series define the range.  ``sequence_only``: HTM Engine's scores.
    ``fill_gaps``: ``hold ROWS`` or ``linear ROWS``, as the engine's option of that name; the frame gets no more rows.

    Rows may be in any order and keep it.  Those that an engine would reject, as of a time that is there already, have
    NaN as scores, and a warning counts them by reason.  So have series of ``by`` that are too short.

    Raises `MissingExtra` without narwhals, `TooFewRows` for one series that is too short, `InvalidRule` for another
    ``fill_gaps``, and `HtmEngineError` for a column that is missing or holds something else.
    """
    filling = parse_filling(fill_gaps)
    values_range = ValueRange(minimum, maximum, pending_samples)
    narwhals = optional("narwhals", "frames")
    given = _given(narwhals, frame)
    indexed = narwhals.maybe_get_index(given) is not None
    _check_columns(given.columns, [timestamp, value, *([by] if by else [])], indexed=indexed)
    times, values = _times(narwhals, given[timestamp]), _numbers(narwhals, given[value])
    found = np.full((len(times), 2), math.nan)
    rejected: Counter[str] = Counter()
    for places in _series(given[by].to_list() if by else None, len(times)):
        accepted = accept(zip(times[places].tolist(), values[places].tolist(), strict=True))
        rejected += accepted.rejected
        rows = accepted.filled(filling)
        try:
            params = values_range.params_for(rows.values)
        except TooFewRows:
            if by is None:
                raise
            rejected["series_too_short"] += len(accepted.values)
            continue
        scores = score_rows(
            Model(params), detector_for(params), rows.timestamps, rows.values, sequence_only=sequence_only
        )
        found[places[accepted.places]] = np.array(scores).reshape(-1, 2)[rows.measured]
    _warn(rejected)
    return _with_scores(narwhals, given, found)  # type: ignore[no-any-return]


def _given(narwhals: Any, frame: Any) -> Any:
    try:
        return narwhals.from_native(frame, eager_only=True)
    except TypeError:
        kind = f"{type(frame).__module__}.{type(frame).__qualname__}"
        raise HtmEngineError(f"{kind} is no frame with rows; a DataFrame of pandas or polars is allowed") from None


def _check_columns(there: Sequence[str], wanted: Iterable[str], *, indexed: bool) -> None:
    remedy = "; an index becomes a column by reset_index()" if indexed else ""
    for name in wanted:
        if name not in there:
            raise HtmEngineError(f"there is no column {name!r}; there are {', '.join(map(repr, there))}{remedy}")


def _times(narwhals: Any, column: Any) -> Floats:
    """Epoch seconds; NaN where there is none."""
    if column.dtype == narwhals.Date:
        column = column.cast(narwhals.Datetime("us"))
    if column.dtype == narwhals.Datetime:
        return _numbers(narwhals, column.dt.timestamp("us")) / 1e6
    return np.array([seconds(each, Notes()) for each in _numbers(narwhals, column).tolist()], dtype=np.float64)


def _numbers(narwhals: Any, column: Any) -> Floats:
    if not column.dtype.is_numeric():
        raise HtmEngineError(f"column {column.name!r} holds {column.dtype}; numbers, or dates as times, are allowed")
    return np.array([math.nan if each is None else each for each in column.cast(narwhals.Float64).to_list()])


def _series(keys: Sequence[Any] | None, rows: int) -> Iterator[NDArray[np.int64]]:
    """The places of each series' rows."""
    if keys is None:
        yield np.arange(rows)
        return
    places: dict[Any, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    yield from map(np.array, places.values())


def _warn(rejected: Counter[str]) -> None:
    if rejected:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
        warnings.warn(f"rows without scores: {told}", stacklevel=3)


def _with_scores(narwhals: Any, given: Any, found: Floats) -> Any:
    namespace = narwhals.get_native_namespace(given)
    columns = [
        narwhals.new_series(name, found[:, place].tolist(), narwhals.Float64, backend=namespace)
        for place, name in enumerate((RAW, SCORE))
    ]
    return narwhals.to_native(given.with_columns(*columns))
