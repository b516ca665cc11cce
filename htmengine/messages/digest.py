# SPDX-License-Identifier: MIT
"""A number for all rows that a model has run: two that are equal ran the same rows, whatever their messages were.

In: rows in order.  Out: a digest after each, made of the one before it and the row.  Worker and Anomaly Service keep
one each, in checkpoints and in the database, so that a checkpoint of rows that the database has no more is known.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b

#: Before the first row.
START = 0

_STEP = struct.Struct("<qqqd")


def extended(digest: int, rowid: int, timestamp: int, value: float) -> int:
    """The digest after one more row; 63 bits, as every database has them."""
    step = _STEP.pack(digest, rowid, timestamp, value + 0.0)  # SQLite has no -0.0
    return int.from_bytes(blake2b(step, digest_size=8).digest(), "little") >> 1


def after_rows(digest: int | None, rowid: int, rows: Iterable[tuple[int, int, float]]) -> int | None:
    """The digest after rows (rowid, timestamp, value) that follow the row ``rowid``; None: not known.

    It is not known if the one before was not, or if a row is missing.

    >>> one = after_rows(START, 0, [(1, 60, 0.5)])
    >>> after_rows(one, 1, [(2, 120, 1.5)]) == after_rows(START, 0, [(1, 60, 0.5), (2, 120, 1.5)])
    True
    >>> after_rows(one, 1, [(3, 180, 2.5)])
    """
    for number, timestamp, value in rows:
        if digest is None or number != rowid + 1:
            return None
        digest, rowid = extended(digest, number, timestamp, value), number
    return digest
