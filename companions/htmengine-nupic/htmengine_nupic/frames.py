# SPDX-License-Identifier: AGPL-3.0-only
"""The frames between HTM Engine's scheduler and its workers, seen from the worker.

A frame is its length, the length of its head (both u32, in this machine's byte order), the head, which is a JSON
object, and columns of numbers of 8 bytes each.  In: turns, each with some slices.  Out: a turn's outcomes.
"""

from __future__ import absolute_import, division, unicode_literals

import json
import struct
from collections import namedtuple

#: The version of the frames that this package speaks; the scheduler refuses a worker of another one.
VERSION = 1
#: What a worker notes before each slice, in a page that outlives it: the turn, and the slice's place in it.
PLACE = struct.Struct(str("=qq"))
#: The worker's file descriptor of that page.
PAGE_FD = 3

_LENGTH = struct.Struct(str("=I"))
_NUMBER_BYTES = 8

#: ``learn``: whether the model learns from it; of a maintenance that is not learnt, it only scores the rows.
Row = namedtuple("Row", "rowid timestamp value learn")
Result = namedtuple("Result", "rowid timestamp value raw predictions")
#: A model's part of a turn: at most one command, then rows that directly follow the row ``after``.
Slice = namedtuple("Slice", "model_id generation after confirmed rows definition command verdict")
#: The answer to a slice.  ``need``: "definition", "rows" or "proof"; ``error``: the model failed; ``refused``: the
#: command cannot be done, and the model is as it was.
Outcome = namedtuple("Outcome", "model_id generation at rows need error claim refused")


def outcome(sent, at=0, rows=(), need=None, error=None, claim=None, refused=None):
    """The answer to the slice ``sent``."""
    return Outcome(sent.model_id, sent.generation, at, tuple(rows), need, error, claim, refused)


def pack(head, columns=()):
    """One frame; a column is a (format, numbers) pair with the format q or d."""
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode("ascii")
    packed = [struct.pack(str("=%d%s") % (len(numbers), kind), *numbers) for kind, numbers in columns]
    body = b"".join([_LENGTH.pack(len(text)), text] + packed)
    return _LENGTH.pack(len(body)) + body


def read(stream):
    """The next frame without its length; None if the scheduler is gone."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    (expected,) = _LENGTH.unpack(length)
    body = stream.read(expected)
    return body if len(body) == expected else None


def unpack(body):
    """The head of a frame without its length, and what reads its columns."""
    (length,) = _LENGTH.unpack_from(body)
    columns_at = _LENGTH.size + length
    return json.loads(body[_LENGTH.size : columns_at].decode("utf-8")), Columns(body, columns_at)


class Columns(object):
    """A frame's columns, read one after the other."""

    def __init__(self, body, at):
        self._body = body
        self._at = at

    def take(self, kind, count):
        """The next column: 64-bit integers (q) or floats (d)."""
        at, self._at = self._at, self._at + count * _NUMBER_BYTES
        return struct.unpack_from(str("=%d%s") % (count, kind), self._body, at)


def slices_of(head, columns):
    """The slices of a turn."""
    ids, extras = head["ids"], head["extras"]
    generations, afters, confirmed, counts = [columns.take("q", len(ids)) for _ in range(4)]
    total = sum(counts)
    rowids, timestamps, values = columns.take("q", total), columns.take("q", total), columns.take("d", total)
    parts = _cut(list(zip(rowids, timestamps, values)), counts)
    slices = []
    for place, each in enumerate(zip(ids, generations, afters, confirmed)):
        extra = extras.get(str(place), {})
        unlearnt = frozenset(extra.get("unlearnt", ()))
        rows = tuple(Row(*row, learn=row[0] not in unlearnt) for row in parts[place])
        given = [extra.get(name) for name in ("definition", "command", "verdict")]
        slices.append(Slice(*(each + (rows,) + tuple(given))))
    return slices


def pack_answer(turn, outcomes, statistics, troubles):
    """The answer to a turn."""
    rows = [row for each in outcomes for row in each.rows]
    head = {
        "turn": turn,
        "statistics": statistics,
        "troubles": troubles,
        "ids": [each.model_id for each in outcomes],
        "extras": _few([_extras(each) for each in outcomes]),
        "predictions": _few([row.predictions for row in rows]),
    }
    columns = [
        ("q", [each.generation for each in outcomes]),
        ("q", [each.at for each in outcomes]),
        ("q", [len(each.rows) for each in outcomes]),
        ("q", [row.rowid for row in rows]),
        ("q", [row.timestamp for row in rows]),
        ("d", [row.value for row in rows]),
        ("d", [row.raw for row in rows]),
    ]
    return pack(head, columns)


def _extras(each):
    if each.need is None and each.error is None and each.refused is None:
        return None
    return {"need": each.need, "error": each.error, "model": None, "claim": each.claim, "refused": each.refused}


def _few(extras):
    """Those that there are, by their place."""
    return {place: extra for place, extra in enumerate(extras) if extra is not None}


def _cut(rows, counts):
    """The rows of each slice."""
    parts, at = [], 0
    for count in counts:
        parts.append(tuple(rows[at : at + count]))
        at += count
    return parts
