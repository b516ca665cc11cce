# SPDX-License-Identifier: MIT
"""How the API shows what the database has: rows of `repository.reading` to JSON values."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from htmengine.adapters.datasource.evidence_columns import EvidenceColumns
from htmengine.evidence.kinds import LANES
from htmengine.repository.queries import MetricStatus, message_of
from htmengine.repository.reading import AnomalyRow, Bucket, DataRow, MetricRow
from htmengine.repository.results import Result
from htmengine.repository.times import from_datetime
from htmengine.web.http import dump
from htmengine.web.refused import Refused

#: Buckets of plots are this many seconds, or whole days: round numbers, so that they stay when the view moves.
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
DAY_S = 86_400


def metric_json(row: MetricRow) -> dict[str, Any]:
    """A metric in lists and by itself."""
    return {
        "uid": row.uid,
        "name": row.name,
        "datasource": row.datasource,
        "description": row.description,
        "server": row.server,
        "location": row.location,
        "unit": _unit(parameters_json(row)),
        "status": MetricStatus(row.status).name,
        "message": message_of(row.status, row.message),
        "rows": row.last_rowid,
        "last_timestamp": None if row.last_timestamp is None else from_datetime(row.last_timestamp),
        "model": _model(row.model_params),
        "newest": _newest(row),
        "evidence_from": row.evidence_from,
        "cadence": _cadence(row),
        "rate": bool(row.is_rate),
        "text": row.text,
    }


def parameters_json(row: MetricRow) -> dict[str, Any] | None:
    """The model specification that a metric was given."""
    found = json.loads(row.parameters) if row.parameters else None
    return found if isinstance(found, dict) else None


def _cadence(row: MetricRow) -> dict[str, Any] | None:
    return None if row.interval_s is None else {"interval_s": row.interval_s, "since": row.interval_since}


def _unit(parameters: Mapping[str, Any] | None) -> str | None:
    spec = (parameters or {}).get("metricSpec")
    unit = spec.get("unit") if isinstance(spec, Mapping) else None
    return unit if isinstance(unit, str) else None


def _model(model_params: str | None) -> dict[str, Any] | None:
    definition = json.loads(model_params) if model_params else None
    if not isinstance(definition, Mapping) or "generation" not in definition:
        return None  # none yet, or HTM Engine's own
    value = definition["params"].get("value", {})
    ends = {"min": value.get("minval"), "max": value.get("maxval")}
    return {"generation": definition["generation"], **ends, "young": definition.get("young", False)}


def _newest(row: MetricRow) -> dict[str, Any] | None:
    if row.timestamp is None or row.rowid is None:
        return None
    return {
        "rowid": row.rowid,
        "timestamp": from_datetime(row.timestamp),
        "value": row.metric_value,
        "raw_anomaly_score": row.raw_anomaly_score,
        "anomaly_score": row.anomaly_score,
    }


def plot_columns(buckets: Sequence[Bucket]) -> dict[str, list[Any]]:
    """Buckets as columns."""
    return {
        "timestamp": [bucket.timestamp for bucket in buckets],
        "count": [bucket.rows for bucket in buckets],
        "min": [bucket.minimum for bucket in buckets],
        "max": [bucket.maximum for bucket in buckets],
        "last": [bucket.last for bucket in buckets],
        "raw_anomaly_score": [bucket.raw_anomaly_score for bucket in buckets],
        "anomaly_score": [bucket.anomaly_score for bucket in buckets],
    }


def evidence_json(found: EvidenceColumns) -> dict[str, Any]:
    """Evidence as columns; numbers are rounded to what a picture shows."""
    value, lower, upper = (_known(column) for column in found.expected.T)
    return {
        "complete": found.complete,
        "timestamp": found.timestamps.tolist(),
        "expected": value,
        "lower": lower,
        "upper": upper,
        "lanes": dict(zip(LANES, found.lanes.T.round(2).tolist(), strict=True)),
    }


def _known(column: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in column.tolist()]


def bucket_of(row: DataRow) -> Bucket:
    """A row as a bucket of its own."""
    value = row.value
    return Bucket(row.timestamp, 1, value, value, value, row.raw_anomaly_score, row.anomaly_score)


def sparkline(rows: Sequence[DataRow]) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {
        "timestamp": [row.timestamp for row in rows],
        "value": [row.value for row in rows],
        "anomaly_score": [row.anomaly_score for row in rows],
    }


def round_step(least: int) -> int:
    """The smallest round number of seconds that is at least ``least``.

    >>> round_step(0), round_step(61), round_step(90_000)
    (1, 120, 172800)
    """
    return next((step for step in STEPS if step >= least), -(-least // DAY_S) * DAY_S)


def anomaly_json(row: AnomalyRow) -> dict[str, Any]:
    """An anomaly in lists."""
    return {**row._asdict(), "why": row.why and json.loads(row.why)}


def result_json(result: Result) -> dict[str, Any]:
    """A result as events carry it; its number is the event's id."""
    fields = result._asdict()
    del fields["number"]
    return fields


def encoded(conn: Connection, view: Callable[..., Any], *args: Any) -> bytes:
    """A view of the database as JSON, made in the thread that reads."""
    return dump(view(conn, *args))


# --- page keys ------------------------------------------------------------------------------------------


def encode_key(key: Sequence[Any]) -> str:
    """Where a page ends, as one word."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_key(text: str, kinds: Sequence[type]) -> list[Any]:
    """The parts of a page key.  Raises `Refused` for what `encode_key` did not make.

    >>> decode_key(encode_key(["web.requests", 0.5]), [str, float])
    ['web.requests', 0.5]
    """
    try:
        key = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        key = None
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds):
        raise Refused(400, "after: not the next of a page before", [("after", "not the next of a page before")])
    return key
