# SPDX-License-Identifier: MIT
"""Every message between the services, as bytes: all bodies are made and read here.

In: dataclasses and plain values from the services.  Out: the bodies that design and docs/messages.md describe
(JSON; on the results exchange zlib-compressed JSON), and back.  A body that is not what its queue carries
raises `InvalidMessage`, never anything else, since other programs publish to these queues too.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from htmengine.errors import InvalidMessage, InvalidSample

#: Header and value that mark a command's result on the results exchange.
DATA_TYPE_HEADER = "dataType"
COMMAND_RESULT_TYPE = "model-cmd-result"

DEFINE_MODEL = "defineModel"
DELETE_MODEL = "deleteModel"
CLONE_MODEL = "cloneModel"
SNAPSHOT_MODEL = "snapshotModel"
COMMANDS = (DEFINE_MODEL, DELETE_MODEL, CLONE_MODEL, SNAPSHOT_MODEL)

#: How a worker's words begin when the disk takes no checkpoints; meanwhile no row is removed.
CHECKPOINTS_REFUSED = "checkpoints cannot be written"

#: A longer results message is refused rather than inflated without end.
MAX_INFLATED_BYTES = 256 * 1024 * 1024

MAX_NAME_LENGTH = 255
MAX_REASON_LENGTH = 40
#: Timestamps up to 2100-01-01; milliseconds sent by mistake lie far beyond.
MAX_TIMESTAMP = 4_102_444_800
MAX_LINE_LENGTH = 16_384

#: {step: [[value, probability], ...]}, as the results exchange carries it; None without a classifier.
Predictions: TypeAlias = dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One accepted Graphite line."""

    name: str
    value: float
    timestamp: int  #: epoch seconds, UTC


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """What the samples queue carries."""

    lines: list[str]
    #: Names the batch, so that a redelivered one is not counted twice; "" from programs that do not set it.
    batch_id: str = ""
    #: Lines that the listener rejected since its last batch, by reason.
    rejected: dict[str, int] = field(default_factory=dict)
    received_at: float | None = None  #: epoch seconds of its first line, for the self-metrics


@dataclass(frozen=True, slots=True)
class InputRow:
    """One stored sample on its way to a model."""

    rowid: int
    timestamp: int
    value: float


@dataclass(frozen=True, slots=True)
class ModelInput:
    """New rows of one model, in rowid order.  ``after`` is the rowid stored before the first of them."""

    model_id: str
    generation: int
    after: int
    rows: tuple[InputRow, ...]
    received_at: float | None = None  #: `SampleBatch.received_at` of the last row; some messages have it

    @property
    def last_rowid(self) -> int:
        return self.rows[-1].rowid if self.rows else self.after


@dataclass(frozen=True, slots=True)
class ModelCommand:
    """A command for a model, in order with its rows in its shard's queue.

    defineModel and cloneModel make a model, of the parameters in ``args["params"]`` or, without them, as its
    metric's definition says; then the rows up to ``args["upTo"]`` are run.  snapshotModel waits for the row
    ``upTo`` and keeps the model under ``args["version"]``.
    """

    method: str
    model_id: str
    generation: int
    command_id: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One scored row: raw anomaly score in 0..1."""

    rowid: int
    timestamp: int
    value: float
    raw: float
    predictions: Predictions = None


@dataclass(frozen=True, slots=True)
class ModelResult:
    """Scored rows of one model, in rowid order."""

    model_id: str
    generation: int
    rows: tuple[ResultRow, ...]
    received_at: float | None = None  #: as in `ModelInput`


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The end of a command: status 0 or an error's text."""

    method: str
    model_id: str
    generation: int
    command_id: str
    status: int = 0
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """The end of the command snapshotModel: the model after the row ``rowid``."""

    model_id: str
    generation: int
    command_id: str
    version: int
    rowid: int
    model: bytes


@dataclass(frozen=True, slots=True)
class ModelError:
    """A model cannot go on; its metric goes to ERROR with this text."""

    model_id: str
    generation: int
    message: str


# --- one Graphite line ---------------------------------------------------------------------------------


def parse_sample(line: str, now: float) -> Sample:
    """Read ``name value timestamp``; the timestamp -1 means ``now``.

    Raises `InvalidSample` with the reason that the reject is counted under.

    >>> parse_sample("cpu.load 0.5 1400000000", now=0.0)
    Sample(name='cpu.load', value=0.5, timestamp=1400000000)
    """
    if len(line) > MAX_LINE_LENGTH:
        raise InvalidSample("line_too_long", f"{len(line)} characters; at most {MAX_LINE_LENGTH} are allowed")
    fields = line.split()
    if len(fields) != 3:
        raise InvalidSample("field_count", f"{len(fields)} fields in {_cut(line)}; 3 are wanted: name value timestamp")
    name, value, timestamp = fields
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidSample("name_too_long", f"{len(name)} characters; at most {MAX_NAME_LENGTH} are allowed")
    if not name.isprintable():
        raise InvalidSample("name_characters", f"{_cut(name)} has characters that cannot be printed")
    return Sample(name, _parse_value(value), _parse_timestamp(timestamp, now))


def _parse_value(text: str) -> float:
    try:
        value = _parse_float(text)
    except ValueError:
        raise InvalidSample("value_not_a_number", f"value {_cut(text)} is not a number") from None
    if not math.isfinite(value):
        raise InvalidSample("value_not_finite", f"value {_cut(text)}; only finite numbers are allowed")
    return value


def _parse_timestamp(text: str, now: float) -> int:
    try:
        timestamp = _parse_float(text)
    except ValueError:
        raise InvalidSample("timestamp_not_a_number", f"timestamp {_cut(text)} is not a number") from None
    if timestamp == -1:
        return int(now)
    if not 0 <= timestamp <= MAX_TIMESTAMP:  # also refuses NaN and the infinities
        raise InvalidSample(
            "timestamp_out_of_range", f"timestamp {_cut(text)}; epoch seconds up to {MAX_TIMESTAMP}, or -1"
        )
    return int(timestamp)


def _parse_float(text: str) -> float:
    if "_" in text:  # Python's own digit grouping is no form that Graphite knows
        raise ValueError(text)
    return float(text)


def _cut(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[:most] + "…")


# --- samples queue -------------------------------------------------------------------------------------


def encode_samples(batch: SampleBatch) -> bytes:
    """The body for the samples queue.

    >>> encode_samples(SampleBatch(["a 1 2"]))
    b'{"protocol":"plain","data":["a 1 2"]}'
    """
    message: dict[str, Any] = {"protocol": "plain", "data": batch.lines}
    if batch.batch_id:
        message["batchId"] = batch.batch_id
    if batch.rejected:
        message["rejected"] = batch.rejected
    if batch.received_at is not None:
        message["receivedAt"] = batch.received_at
    return _dump(message)


def decode_samples(body: bytes) -> SampleBatch:
    """Read a samples message from any program.

    Data that are not text stay in ``lines`` as their JSON text, so that each is rejected by itself.
    """
    message = _load(body)
    if message.get("protocol") != "plain":
        raise InvalidMessage(f"protocol {message.get('protocol')!r}; only 'plain' is allowed")
    data = message.get("data")
    if not isinstance(data, list):
        raise InvalidMessage("data is missing or no list of lines")
    rejected = message.get("rejected", {})
    if not (isinstance(rejected, dict) and all(_is_count(reason, n) for reason, n in rejected.items())):
        raise InvalidMessage("rejected is no object of counts by short reasons")
    batch_id = message.get("batchId", "")
    if not (isinstance(batch_id, str) and len(batch_id) <= 64 and batch_id.isprintable()):
        raise InvalidMessage("batchId is no text of at most 64 printable characters")
    lines = [line if isinstance(line, str) else json.dumps(line) for line in data]
    return SampleBatch(lines, batch_id, rejected, _read_received_at(message))


def _read_received_at(message: Mapping[str, Any]) -> float | None:
    """A figure for people: one that is none is as good as missing."""
    found = message.get("receivedAt")
    return found if isinstance(found, float) and math.isfinite(found) else None


def _received_at(received_at: float | None) -> dict[str, float]:
    return {} if received_at is None else {"receivedAt": received_at}


def _is_count(reason: str, count: object) -> bool:
    """Whether the database can keep it."""
    if not isinstance(count, int) or isinstance(count, bool):
        return False
    return len(reason) <= MAX_REASON_LENGTH and reason.isprintable() and 0 <= count < 2**31


# --- model input queues --------------------------------------------------------------------------------


def encode_model_inputs(inputs: Iterable[ModelInput]) -> bytes:
    """The body for one shard's model input queue."""
    return _dump({"models": [_model_input_json(each) for each in inputs]})


def encode_model_command(command: ModelCommand) -> bytes:
    """The body for a command, in the same queue as its model's rows."""
    return _dump(
        {
            "command": {
                "method": command.method,
                "modelId": command.model_id,
                "generation": command.generation,
                "commandId": command.command_id,
                "args": command.args,
            }
        }
    )


def decode_model_message(body: bytes) -> list[ModelInput] | ModelCommand:
    """Read what one shard's model input queue carries."""
    message = _load(body)
    with _reading("a model input message"):
        if "command" in message:
            return _read_command(message["command"])
        return [_read_model_input(each) for each in message["models"]]


def _model_input_json(model_input: ModelInput) -> dict[str, Any]:
    return {
        "modelId": model_input.model_id,
        "generation": model_input.generation,
        "after": model_input.after,
        "rows": [(row.rowid, row.timestamp, row.value) for row in model_input.rows],
        **_received_at(model_input.received_at),
    }


def _read_model_input(message: Mapping[str, Any]) -> ModelInput:
    rows = tuple(InputRow(int(rowid), int(ts), float(value)) for rowid, ts, value in message["rows"])
    received_at = _read_received_at(message)
    return ModelInput(str(message["modelId"]), int(message["generation"]), int(message["after"]), rows, received_at)


def _read_command(message: Mapping[str, Any]) -> ModelCommand:
    method = message["method"]
    if method not in COMMANDS:
        raise ValueError(f"method {method!r}; allowed are {', '.join(COMMANDS)}")
    return ModelCommand(
        method,
        str(message["modelId"]),
        int(message["generation"]),
        str(message["commandId"]),
        dict(message.get("args", {})),
    )


# --- results queue -------------------------------------------------------------------------------------

ResultMessage: TypeAlias = list[ModelResult] | CommandResult | ModelSnapshot | ModelError


def encode_results(results: Iterable[ModelResult]) -> bytes:
    """The body for the results queue: rows that were scored, of any number of models."""
    return _dump(
        {
            "results": [
                {
                    "modelId": result.model_id,
                    "generation": result.generation,
                    "rows": [(r.rowid, r.timestamp, r.value, r.raw, r.predictions) for r in result.rows],
                    **_received_at(result.received_at),
                }
                for result in results
            ]
        }
    )


def encode_command_result(result: CommandResult) -> bytes:
    """The body for the results queue: a command's end."""
    return _dump(
        {
            "commandResult": {
                "method": result.method,
                "modelId": result.model_id,
                "generation": result.generation,
                "commandId": result.command_id,
                "status": result.status,
                "errorMessage": result.error_message,
            }
        }
    )


def encode_model_snapshot(snapshot: ModelSnapshot) -> bytes:
    """The body for the results queue: a model's state."""
    return _dump(
        {
            "modelSnapshot": {
                "modelId": snapshot.model_id,
                "generation": snapshot.generation,
                "commandId": snapshot.command_id,
                "version": snapshot.version,
                "rowid": snapshot.rowid,
                "model": base64.b64encode(snapshot.model).decode(),
            }
        }
    )


def encode_model_error(error: ModelError) -> bytes:
    """The body for the results queue: a model that cannot go on."""
    return _dump({"modelError": {"modelId": error.model_id, "generation": error.generation, "message": error.message}})


def decode_result_message(body: bytes) -> ResultMessage:
    """Read what the results queue carries."""
    message = _load(body)
    with _reading("a results message"):
        if "commandResult" in message:
            return _read_command_result(message["commandResult"])
        if "modelSnapshot" in message:
            return _read_snapshot(message["modelSnapshot"])
        if "modelError" in message:
            return _read_model_error(message["modelError"])
        return [_read_model_result(each) for each in message["results"]]


def _read_command_result(message: Mapping[str, Any]) -> CommandResult:
    return CommandResult(
        str(message["method"]),
        str(message["modelId"]),
        int(message["generation"]),
        str(message["commandId"]),
        int(message["status"]),
        message["errorMessage"],
    )


def _read_snapshot(message: Mapping[str, Any]) -> ModelSnapshot:
    return ModelSnapshot(
        str(message["modelId"]),
        int(message["generation"]),
        str(message["commandId"]),
        int(message["version"]),
        int(message["rowid"]),
        base64.b64decode(message["model"], validate=True),
    )


def _read_model_error(message: Mapping[str, Any]) -> ModelError:
    return ModelError(str(message["modelId"]), int(message["generation"]), str(message["message"]))


def _read_model_result(message: Mapping[str, Any]) -> ModelResult:
    rows = tuple(
        ResultRow(int(rowid), int(ts), float(value), float(raw), predictions)
        for rowid, ts, value, raw, predictions in message["rows"]
    )
    return ModelResult(str(message["modelId"]), int(message["generation"]), rows, _read_received_at(message))


# --- results exchange ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What an inference message says of its metric."""

    uid: str
    name: str
    description: str | None
    resource: str | None
    location: str | None
    datasource: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One row as applications see it: raw score, anomaly score, and the classifier's predictions."""

    rowid: int
    timestamp: int
    value: float
    raw: float
    anomaly: float
    predictions: Predictions = None


def encode_inference(metric: MetricInfo, rows: Sequence[ScoredRow]) -> bytes:
    """The body for the results exchange: scored rows of one metric."""
    return _deflate(
        {
            "metric": {
                "uid": metric.uid,
                "name": metric.name,
                "description": metric.description,
                "resource": metric.resource,
                "location": metric.location,
                "datasource": metric.datasource,
                "spec": metric.spec,
            },
            "results": [
                {
                    "rowid": row.rowid,
                    "ts": row.timestamp,
                    "value": row.value,
                    "rawAnomaly": row.raw,
                    "anomaly": row.anomaly,
                    "multiStepBestPredictions": row.predictions,
                }
                for row in rows
            ],
        }
    )


def encode_command_outcome(result: CommandResult, metric: MetricInfo) -> bytes:
    """The body for the results exchange: a command's result (header ``dataType: model-cmd-result``)."""
    return _deflate(
        {
            "method": result.method,
            "modelId": result.model_id,
            "commandId": result.command_id,
            "status": result.status,
            "errorMessage": result.error_message,
            "modelInfo": {"metricName": metric.name, "resource": metric.resource, "modelSpec": metric.spec},
        }
    )


def decode_broadcast(body: bytes) -> dict[str, Any]:
    """Read a body from the results exchange: inference results or a command's result, as its JSON object."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(body, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise InvalidMessage(f"not zlib-compressed: {error}") from None
    if inflater.unconsumed_tail:
        raise InvalidMessage(f"inflates to more than {MAX_INFLATED_BYTES} bytes")
    return _load(text)


def decode_inference(body: bytes) -> tuple[str, str, tuple[ScoredRow, ...]]:
    """Read inference results: the metric's uid and name, and its rows without predictions."""
    message = decode_broadcast(body)
    with _reading("inference results"):
        rows = tuple(
            ScoredRow(
                int(row["rowid"]), int(row["ts"]), float(row["value"]), float(row["rawAnomaly"]), float(row["anomaly"])
            )
            for row in message["results"]
        )
        return str(message["metric"]["uid"]), str(message["metric"]["name"]), rows


# --- JSON ----------------------------------------------------------------------------------------------


def _deflate(message: Mapping[str, Any]) -> bytes:
    return zlib.compress(_dump(message), 1)


def _dump(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """A JSON object that lacks what is read of it is an `InvalidMessage`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidMessage(f"not {what}: {error!r}") from None


def _load(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise InvalidMessage("no JSON object")
    return message
