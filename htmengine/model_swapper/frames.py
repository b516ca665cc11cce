# SPDX-License-Identifier: MIT
"""The wire between scheduler and worker process: JSON objects, each after its length (u32, big-endian).

Used by `worker_pool` on the scheduler's side and `model_runner` in the worker.  A turn's slices go one way, its
outcomes the other; both are the dataclasses of `swap_controller`.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from htmengine.messages import InputRow, ModelCommand, ResultRow
from htmengine.model_swapper.swap_controller import Need, Outcome, Slice

LENGTH = struct.Struct(">I")
#: A frame may be this long; a turn of 1000 rows takes some 50 KB.
MAX_FRAME_BYTES = 64 * 1024 * 1024


def pack(message: dict[str, Any]) -> bytes:
    """One frame.

    >>> pack({"stop": True})
    b'\\x00\\x00\\x00\\r{"stop":true}'
    """
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    return LENGTH.pack(len(body)) + body


def slice_to_json(sent: Slice) -> dict[str, Any]:
    """A slice as the worker reads it with `slice_from_json`."""
    command = sent.command
    return {
        "id": sent.model_id,
        "generation": sent.generation,
        "after": sent.after,
        "rows": [(row.rowid, row.timestamp, row.value) for row in sent.rows],
        "confirmed": sent.confirmed,
        "definition": sent.definition,
        "command": command and {"method": command.method, "commandId": command.command_id, "args": command.args},
    }


def slice_from_json(data: dict[str, Any]) -> Slice:
    """The slice that `slice_to_json` was given."""
    command = data["command"]
    return Slice(
        data["id"],
        data["generation"],
        data["after"],
        tuple(InputRow(*row) for row in data["rows"]),
        data["confirmed"],
        data["definition"],
        command
        and ModelCommand(command["method"], data["id"], data["generation"], command["commandId"], command["args"]),
    )


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the scheduler reads it with `outcome_from_json`."""
    return {
        "id": outcome.model_id,
        "generation": outcome.generation,
        "at": outcome.at,
        "rows": [(r.rowid, r.timestamp, r.value, r.raw, r.predictions) for r in outcome.rows],
        "need": outcome.need and outcome.need.value,
        "error": outcome.error,
        "model": outcome.model and base64.b64encode(outcome.model).decode(),
    }


def outcome_from_json(data: dict[str, Any]) -> Outcome:
    """The outcome that `outcome_to_json` was given."""
    need = data["need"]
    return Outcome(
        data["id"],
        data["generation"],
        data["at"],
        tuple(ResultRow(*row) for row in data["rows"]),
        need and Need(need),
        data["error"],
        data["model"] and base64.b64decode(data["model"]),
    )
