# SPDX-License-Identifier: MIT
"""The bodies of the results exchange, zlib-compressed JSON, which applications read.

docs/messages.md describes them, and the JSON Schemas are made from the types here.  The bytes are those of Python's
json, whose way to write numbers applications have seen from the start.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from htmengine.errors import InvalidMessage
from htmengine.messages.body import invalid, read, refuse_repeated
from htmengine.messages.bounds import Name, Rowid, Score, Steps, Timestamp, Uid
from htmengine.messages.models import CommandResult, Method

#: Header and value that mark a command's result on the results exchange.
DATA_TYPE_HEADER = "dataType"
COMMAND_RESULT_TYPE = "model-cmd-result"

#: A longer results message is refused rather than inflated without end.
MAX_INFLATED_BYTES = 256 * 1024 * 1024

Spec: TypeAlias = Annotated[
    dict[str, Any], Meta(description="The model specification that the metric is monitored with.")
]


class MetricInfo(Struct, frozen=True, dict=True):
    """What an inference message says of its metric."""

    uid: Uid
    name: Name
    description: str | None
    resource: str | None
    location: str | None
    datasource: str
    spec: Spec

    @cached_property
    def text(self) -> str:
        """It as messages have it; written once, for it is most of them."""
        return _dumps(self)


class Reason(Struct, frozen=True, gc=False):
    """What one kind of evidence says of a row."""

    kind: str
    decades: Annotated[float, Meta(ge=0, le=7, description="One waits 10 to this power rows for one so unusual.")]
    text: Annotated[str, Meta(description="The same in words.")]


class Why(Struct, frozen=True):
    """Why a row has its score."""

    height: Annotated[float, Meta(ge=0, description="Of a page: the score, and the kinds that may page alone.")]
    direction: Annotated[Literal["up", "down"] | None, Meta(description="Where the values are, seen from the usual.")]
    expected: Annotated[float | None, Meta(description="What the value was expected to be; null: nothing is known.")]
    lower: Annotated[float | None, Meta(description="Where the band of usual values begins.")]
    upper: Annotated[float | None, Meta(description="Where the band of usual values ends.")]
    evidence: Annotated[list[Reason], Meta(description="The kinds that speak of the row, the strongest first.")]

    @property
    def properties(self) -> int:
        """How many the JSON object has, its evidence's included."""
        return 6 + 3 * len(self.evidence)


class ScoredRow(
    Struct,
    frozen=True,
    gc=False,
    rename={"timestamp": "ts", "raw": "rawAnomaly", "predictions": "multiStepBestPredictions"},
):
    """One row as applications see it: raw score, anomaly score, and the classifier's predictions."""

    rowid: Rowid
    timestamp: Timestamp
    value: float
    raw: Score
    anomaly: Score
    predictions: (
        Annotated[Steps, Meta(description="With the classifier: [value, probability] by the number of steps.")] | None
    ) = None
    why: Annotated[Why, Meta(description="Of rows with great scores or heights.")] | UnsetType = UNSET


class InferenceResults(Struct, frozen=True):
    """Scored rows of one metric."""

    metric: MetricInfo
    results: Annotated[list[ScoredRow], Meta(min_length=1, description="In the order of the rowids.")]


class ModelInfo(Struct, frozen=True, rename="camel"):
    """What a command's result says of its metric."""

    metric_name: str
    resource: str | None
    model_spec: dict[str, Any]


class CommandOutcome(Struct, frozen=True, rename="camel"):
    """A command's result."""

    method: Method
    model_id: Uid
    command_id: str
    status: Annotated[int, Meta(description="0: done.")]
    error_message: str | None
    model_info: ModelInfo


_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ANYTHING = msgspec.json.Decoder(dict[str, Any])
_INFERENCE = msgspec.json.Decoder(InferenceResults)


def encode_inference(metric: MetricInfo, rows: Sequence[ScoredRow]) -> bytes:
    """The body for the results exchange: scored rows of one metric."""
    return _deflate(f'{{"metric":{metric.text},"results":[{",".join(map(_row_text, rows))}]}}')


def encode_command_outcome(result: CommandResult, metric: MetricInfo) -> bytes:
    """The body for the results exchange: a command's result (header ``dataType: model-cmd-result``)."""
    info = ModelInfo(metric.name, metric.resource, metric.spec)
    outcome = CommandOutcome(
        result.method, result.model_id, result.command_id, result.status, result.error_message, info
    )
    return _deflate(_dumps(outcome))


def decode_broadcast(body: bytes) -> dict[str, Any]:
    """Read a body from the results exchange: inference results or a command's result, as its JSON object."""
    text = _inflate(body)
    message = read(text, _ANYTHING)
    refuse_repeated(text)
    return message


def decode_inference(body: bytes) -> tuple[str, str, tuple[ScoredRow, ...]]:
    """Read inference results: the metric's uid and name, and its rows."""
    text = _inflate(body)
    message = read(text, _INFERENCE)
    whys = [row.why for row in message.results if row.why is not UNSET]
    members = 9 + _members(message.metric.spec) + 6 * len(message.results)
    refuse_repeated(text, members + sum(1 + why.properties for why in whys))
    rowids = [row.rowid for row in message.results]
    if any(map(int.__ge__, rowids, rowids[1:])):
        raise invalid("$.results", "the rowids do not ascend")
    return message.metric.uid, message.metric.name, tuple(message.results)


def _row_text(row: ScoredRow) -> str:
    """A row as `json` writes it; nearly all are plain, and it is slow."""
    if row.predictions is None and row.why is UNSET and math.isfinite(row.value + row.raw + row.anomaly):
        return (
            f'{{"rowid":{row.rowid},"ts":{row.timestamp},"value":{row.value!r},"rawAnomaly":{row.raw!r},'
            f'"anomaly":{row.anomaly!r},"multiStepBestPredictions":null}}'
        )
    return _dumps(row)


def _members(value: Any) -> int:
    """How many properties the objects in a value have.

    >>> _members({"metricSpec": {"metric": "cpu"}, "tags": [{"a": 1}]})
    4
    """
    if isinstance(value, dict):
        return len(value) + sum(map(_members, value.values()))
    return sum(map(_members, value)) if isinstance(value, list) else 0


def _dumps(message: Struct) -> str:
    return _JSON.encode(msgspec.to_builtins(message))


def _deflate(text: str) -> bytes:
    return zlib.compress(text.encode(), 1)


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(body, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise InvalidMessage(f"not zlib-compressed: {error}") from None
    if inflater.unconsumed_tail:
        raise InvalidMessage(f"inflates to more than {MAX_INFLATED_BYTES} bytes")
    if not inflater.eof or inflater.unused_data:
        raise InvalidMessage("not zlib-compressed: cut short, or followed by something else")
    return text
