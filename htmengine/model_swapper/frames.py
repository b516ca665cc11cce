# SPDX-License-Identifier: MIT
"""The wire between scheduler and worker process: turns go one way, their answers the other.

A frame is its length, the length of its head (both u32, in this machine's byte order), the head, which is a JSON
object, and columns of numbers of 8 bytes each.  What all slices and outcomes have is in the columns, so that a row
costs some bytes and next to no time; what few have (definitions, commands, errors, predictions) is in the head.

Used by `worker_pool` on the scheduler's side and `model_runner` in the worker; slices and outcomes are those of
`turns`.  ``companions/htmengine-nupic`` has a worker of its own, which reads and writes the same frames.
"""

from __future__ import annotations

import base64
import json
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import accumulate, pairwise
from typing import IO, Any, TypeVar

from msgspec import structs

from htmengine.messages import InputRow, ModelCommand, ResultRow
from htmengine.model_swapper.turns import Claim, Need, Outcome, Slice, Verdict

#: The version of the frames, which a worker gives when it is ready.  A change that other programs' workers would
#: misread is a new version.
VERSION = 1
LENGTH = struct.Struct("=I")
#: A frame may be this long; a turn of 1000 rows takes some 30 KB.
MAX_FRAME_BYTES = 64 * 1024 * 1024
#: What a worker notes before each slice, in a page that outlives it: the turn, and the slice's place in it.
PLACE = struct.Struct("=qq")
#: The worker's file descriptor of that page.
PAGE_FD = 3

_NUMBER_BYTES = 8

T = TypeVar("T")


def pack(head: dict[str, Any], columns: Iterable[array[int] | array[float]] = ()) -> bytes:
    """One frame.

    >>> unpack(pack({"stop": True})[LENGTH.size :])[0]
    {'stop': True}
    """
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    body = b"".join((LENGTH.pack(len(text)), text, *columns))
    return LENGTH.pack(len(body)) + body


def read(file: IO[bytes]) -> bytes | None:
    """The next frame without its length; None if the other side is gone."""
    length = file.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    (expected,) = LENGTH.unpack(length)
    body = file.read(expected)
    return body if len(body) == expected else None


def unpack(body: bytes) -> tuple[dict[str, Any], Columns]:
    """The head of a frame without its length, and what reads its columns."""
    (length,) = LENGTH.unpack_from(body)
    columns_at = LENGTH.size + length
    return json.loads(body[LENGTH.size : columns_at]), Columns(body, columns_at)


class Columns:
    """A frame's columns, read one after the other."""

    def __init__(self, body: bytes, at: int) -> None:
        self._rest = memoryview(body)[at:]

    def integers(self, count: int) -> list[int]:
        """The next column, of 64-bit integers."""
        return list(self._take(count).cast("q"))

    def floats(self, count: int) -> list[float]:
        """The next column, of 64-bit floats."""
        return list(self._take(count).cast("d"))

    def _take(self, count: int) -> memoryview:
        column, self._rest = self._rest[: count * _NUMBER_BYTES], self._rest[count * _NUMBER_BYTES :]
        return column


# --- turns ----------------------------------------------------------------------------------------------


def pack_turn(turn: int, slices: Sequence[Slice]) -> bytes:
    """A turn as the worker reads it with `slices_of`."""
    rows = [row for each in slices for row in each.rows]
    return pack(
        {"turn": turn, "ids": [each.model_id for each in slices], "extras": _few(map(_slice_extras, slices))},
        (
            array("q", [each.generation for each in slices]),
            array("q", [each.after for each in slices]),
            array("q", [each.confirmed for each in slices]),
            array("q", [len(each.rows) for each in slices]),
            array("q", [row.rowid for row in rows]),
            array("q", [row.timestamp for row in rows]),
            array("d", [row.value for row in rows]),
        ),
    )


def slices_of(head: dict[str, Any], columns: Columns) -> list[Slice]:
    """The slices that `pack_turn` was given."""
    ids, extras = head["ids"], head["extras"]
    generations, afters, confirmed, counts = (columns.integers(len(ids)) for _ in range(4))
    total = sum(counts)
    rows = map(InputRow, columns.integers(total), columns.integers(total), columns.floats(total))
    slices = list(map(Slice, ids, generations, afters, _cut(rows, counts), confirmed))
    for place, extra in extras.items():
        slices[int(place)] = _with_extras(slices[int(place)], **extra)
    return slices


def _slice_extras(sent: Slice) -> dict[str, Any] | None:
    command = sent.command
    unlearnt = [row.rowid for row in sent.rows if not row.learn]
    if command is None and sent.definition is None and sent.verdict is None and not unlearnt:
        return None
    return {
        "unlearnt": unlearnt,
        "definition": sent.definition,
        "verdict": sent.verdict and asdict(sent.verdict),
        "command": command and {"method": command.method, "command_id": command.command_id, "args": command.args},
    }


def _with_extras(
    sent: Slice,
    unlearnt: list[int],
    definition: dict[str, Any] | None,
    verdict: dict[str, Any] | None,
    command: dict[str, Any] | None,
) -> Slice:
    order = command and ModelCommand(model_id=sent.model_id, generation=sent.generation, **command)
    judged = verdict and Verdict(**{**verdict, "claim": Claim(**verdict["claim"])})
    not_learnt = frozenset(unlearnt)
    rows = tuple(structs.replace(row, learn=False) if row.rowid in not_learnt else row for row in sent.rows)
    return replace(sent, rows=rows, definition=definition, command=order or None, verdict=judged or None)


# --- answers --------------------------------------------------------------------------------------------


def pack_answer(turn: int, outcomes: Sequence[Outcome], statistics: dict[str, int], troubles: Sequence[str]) -> bytes:
    """The answer to a turn; the scheduler reads the outcomes with `outcomes_of`."""
    rows = [row for each in outcomes for row in each.rows]
    head = {
        "turn": turn,
        "statistics": statistics,
        "troubles": troubles,
        "ids": [each.model_id for each in outcomes],
        "extras": _few(map(_outcome_extras, outcomes)),
        "predictions": _few(row.predictions for row in rows),
    }
    columns = (
        array("q", [each.generation for each in outcomes]),
        array("q", [each.at for each in outcomes]),
        array("q", [len(each.rows) for each in outcomes]),
        array("q", [row.rowid for row in rows]),
        array("q", [row.timestamp for row in rows]),
        array("d", [row.value for row in rows]),
        array("d", [row.raw for row in rows]),
    )
    return pack(head, columns)


def outcomes_of(head: dict[str, Any], columns: Columns) -> list[Outcome]:
    """The outcomes that `pack_answer` was given."""
    ids, extras, predictions = head["ids"], head["extras"], head["predictions"]
    generations, ats, counts = (columns.integers(len(ids)) for _ in range(3))
    total = sum(counts)
    rowids, timestamps = columns.integers(total), columns.integers(total)
    values, raws = columns.floats(total), columns.floats(total)
    predicted = (predictions.get(str(place)) for place in range(total)) if predictions else [None] * total
    rows = map(ResultRow, rowids, timestamps, values, raws, predicted)
    outcomes = list(map(Outcome, ids, generations, ats, _cut(rows, counts)))
    for place, extra in extras.items():
        outcomes[int(place)] = _with_problems(outcomes[int(place)], **extra)
    return outcomes


def _outcome_extras(outcome: Outcome) -> dict[str, Any] | None:
    if outcome.need is None and outcome.error is None and outcome.model is None and outcome.refused is None:
        return None
    return {
        "need": outcome.need and outcome.need.value,
        "error": outcome.error,
        "model": outcome.model and base64.b64encode(outcome.model).decode(),
        "claim": outcome.claim and asdict(outcome.claim),
        "refused": outcome.refused,
    }


def _with_problems(
    outcome: Outcome,
    need: str | None,
    error: str | None,
    model: str | None,
    claim: dict[str, Any] | None,
    refused: str | None,
) -> Outcome:
    return replace(
        outcome,
        need=Need(need) if need else None,
        error=error,
        model=base64.b64decode(model) if model else None,
        claim=Claim(**claim) if claim else None,
        refused=refused,
    )


# --------------------------------------------------------------------------------------------------------


def _few(extras: Iterable[T | None]) -> dict[int, T]:
    """Those that there are, by their place."""
    return {place: extra for place, extra in enumerate(extras) if extra is not None}


def _cut(rows: Iterable[T], counts: Sequence[int]) -> Iterator[tuple[T, ...]]:
    """The rows of each slice or outcome.

    >>> list(_cut("abc", [1, 0, 2]))
    [('a',), (), ('b', 'c')]
    """
    together = tuple(rows)
    return (together[first:end] for first, end in pairwise(accumulate(counts, initial=0)))
