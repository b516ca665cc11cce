# SPDX-License-Identifier: MIT
"""The engine's own messages: rows and commands to the models, and what comes back of them.

They change with releases.  `ModelInput` and `ModelCommand` are in the shards' model input queues, the others in the
results queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from htmengine.errors import InvalidMessage
from htmengine.messages.body import invalid, read, refuse_repeated
from htmengine.messages.bounds import (
    MAX_STATE_LENGTH,
    Generation,
    Moment,
    Rowid,
    RowidOrZero,
    Score,
    Steps,
    Text,
    Timestamp,
    Token,
    Uid,
    Version,
    check_depth,
    fitting,
)

DEFINE_MODEL: Final = "defineModel"
DELETE_MODEL: Final = "deleteModel"
CLONE_MODEL: Final = "cloneModel"
SNAPSHOT_MODEL: Final = "snapshotModel"
Method: TypeAlias = Literal["defineModel", "deleteModel", "cloneModel", "snapshotModel"]
COMMANDS: tuple[Method, ...] = get_args(Method)

#: How a worker's words begin when the disk takes no checkpoints; meanwhile no row is removed.
CHECKPOINTS_REFUSED = "checkpoints cannot be written"

#: {step: [[value, probability], ...]}, as the results exchange carries it; None without a classifier.
Predictions: TypeAlias = Steps | None


# --- rows and commands to the models -------------------------------------------------------------------


class InputRow(Struct, frozen=True, array_like=True, gc=False):
    """One stored sample on its way to a model."""

    rowid: Rowid
    timestamp: Timestamp
    value: float
    learn: bool = True  #: False: the model scores the row and does not learn it


class ModelInput(Struct, frozen=True, rename="camel", omit_defaults=True):
    """New rows of one model, in rowid order.  ``after`` is the rowid stored before the first of them."""

    model_id: Uid
    generation: Generation
    after: RowidOrZero
    rows: tuple[InputRow, ...]
    received_at: Moment | None = None  #: `SampleBatch.received_at` of the last row; some messages have it

    @property
    def last_rowid(self) -> int:
        return self.rows[-1].rowid if self.rows else self.after


class CommandArgs(TypedDict, total=False):
    """What a command may say: see `ModelCommand`."""

    params: dict[str, Any]
    upTo: RowidOrZero
    version: Version


class ModelCommand(Struct, frozen=True, rename="camel"):
    """A command for a model, in order with its rows in its shard's queue.

    defineModel and cloneModel make a model, of the parameters in ``args["params"]`` or, without them, as its
    metric's definition says; then the rows up to ``args["upTo"]`` are run.  snapshotModel waits for the row
    ``upTo`` and keeps the model under ``args["version"]``.
    """

    method: Method
    model_id: Uid
    generation: Generation
    command_id: Token
    args: CommandArgs = field(default_factory=CommandArgs)


class _ModelMessage(Struct, omit_defaults=True):
    """The body of a message of a model input queue: one of these."""

    models: list[ModelInput] | UnsetType = UNSET
    command: ModelCommand | UnsetType = UNSET


_MODEL_MESSAGE = msgspec.json.Decoder(_ModelMessage)


def encode_model_inputs(inputs: Iterable[ModelInput]) -> bytes:
    """The body for one shard's model input queue."""
    return msgspec.json.encode(_ModelMessage(models=list(inputs)))


def encode_model_command(command: ModelCommand) -> bytes:
    """The body for a command, in the same queue as its model's rows."""
    return msgspec.json.encode(_ModelMessage(command=command))


def decode_model_message(body: bytes) -> list[ModelInput] | ModelCommand:
    """Read what one shard's model input queue carries."""
    message = read(body, _MODEL_MESSAGE)
    _require_one(message)
    if not isinstance(message.command, UnsetType):
        refuse_repeated(body)
        _check_command(message.command)
        return message.command
    assert not isinstance(message.models, UnsetType)
    refuse_repeated(body, 1 + sum(4 + (each.received_at is not None) for each in message.models))
    for place, each in enumerate(message.models):
        rowids = [row.rowid for row in each.rows]
        if rowids != list(range(each.after + 1, each.after + 1 + len(rowids))):
            raise invalid(f"$.models[{place}].rows", f"the rows after {each.after} do not follow each other")
    return message.models


def _check_command(command: ModelCommand) -> None:
    if command.method == SNAPSHOT_MODEL and "version" not in command.args:
        raise invalid("$.command.args", f"{SNAPSHOT_MODEL} needs a version")
    try:
        check_depth(command.args.get("params"))
    except ValueError as error:
        raise invalid("$.command.args.params", error) from None


# --- what comes back -----------------------------------------------------------------------------------


class ResultRow(Struct, frozen=True, array_like=True, gc=False):
    """One scored row: raw anomaly score in 0..1."""

    rowid: Rowid
    timestamp: Timestamp
    value: float
    raw: Score
    predictions: Predictions = None


class ModelResult(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Scored rows of one model, in rowid order; they follow those of the result before.

    Without rows it tells that the model has come to the row ``at``, and that all results up to it were told before.
    """

    model_id: Uid
    generation: Generation
    rows: tuple[ResultRow, ...]
    received_at: Moment | None = None  #: as in `ModelInput`
    at: RowidOrZero = 0

    @property
    def follows(self) -> int:
        """The row up to which all results were told before."""
        return self.rows[0].rowid - 1 if self.rows else self.at

    @property
    def last_rowid(self) -> int:
        """The last row that it is about."""
        return self.rows[-1].rowid if self.rows else self.at


class CommandResult(Struct, frozen=True, rename="camel"):
    """The end of a command: status 0 or an error's text."""

    method: Method
    model_id: Uid
    generation: Generation
    command_id: Token
    status: Annotated[int, Meta(ge=-(2**31), lt=2**31)] = 0
    error_message: Text | None = None


class ModelSnapshot(Struct, frozen=True, rename="camel"):
    """The end of the command snapshotModel: the model after the row ``rowid``."""

    model_id: Uid
    generation: Generation
    command_id: Token
    version: Version
    rowid: RowidOrZero
    model: Annotated[bytes, Meta(max_length=MAX_STATE_LENGTH)]


class ModelError(Struct, frozen=True, rename="camel"):
    """A model cannot go on; its metric goes to ERROR with this text."""

    model_id: Uid
    generation: Generation
    message: Text


ResultMessage: TypeAlias = list[ModelResult] | CommandResult | ModelSnapshot | ModelError


class _ResultMessage(Struct, rename="camel", omit_defaults=True):
    """The body of a message of the results queue: one of these."""

    results: list[ModelResult] | UnsetType = UNSET
    command_result: CommandResult | UnsetType = UNSET
    model_snapshot: ModelSnapshot | UnsetType = UNSET
    model_error: ModelError | UnsetType = UNSET


_RESULT_MESSAGE = msgspec.json.Decoder(_ResultMessage)


def encode_results(results: Iterable[ModelResult]) -> bytes:
    """The body for the results queue: rows that were scored, of any number of models."""
    return msgspec.json.encode(_ResultMessage(results=list(results)))


def encode_command_result(result: CommandResult) -> bytes:
    """The body for the results queue: a command's end."""
    return msgspec.json.encode(_ResultMessage(command_result=result))


def encode_model_snapshot(snapshot: ModelSnapshot) -> bytes:
    """The body for the results queue: a model's state."""
    return msgspec.json.encode(_ResultMessage(model_snapshot=snapshot))


def encode_model_error(error: ModelError) -> bytes:
    """The body for the results queue: a model that cannot go on."""
    fits = msgspec.structs.replace(error, message=fitting(error.message))
    return msgspec.json.encode(_ResultMessage(model_error=fits))


def decode_result_message(body: bytes) -> ResultMessage:
    """Read what the results queue carries."""
    message = read(body, _RESULT_MESSAGE)
    found: ResultMessage = _require_one(message)
    if not isinstance(message.results, UnsetType):
        refuse_repeated(body, 1 + sum(3 + (each.received_at is not None) + (each.at != 0) for each in message.results))
        for place, each in enumerate(message.results):
            rowids = [row.rowid for row in each.rows]
            if len(rowids) > 1 and any(map(int.__ge__, rowids, rowids[1:])):
                raise invalid(f"$.results[{place}].rows", "the rowids do not ascend")
        return message.results
    refuse_repeated(body)
    return found


def _require_one(message: _ModelMessage | _ResultMessage) -> Any:
    """The one property that a message has of those that tell its kind."""
    found = [value for value in msgspec.structs.astuple(message) if value is not UNSET]
    if len(found) != 1:
        raise InvalidMessage(f"$: needs one of {', '.join(message.__struct_encode_fields__)}")
    return found[0]
