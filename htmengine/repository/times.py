# SPDX-License-Identifier: MIT
"""Epoch seconds, as everything else counts time, and the database's UTC times without a zone."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

#: Rows that come together are mostly of few times.
_RECENT = 1024


@lru_cache(_RECENT)
def to_datetime(epoch: int) -> datetime:
    """As the database has it.

    >>> to_datetime(60)
    datetime.datetime(1970, 1, 1, 0, 1)
    """
    return datetime.fromtimestamp(epoch, UTC).replace(tzinfo=None)


@lru_cache(_RECENT)
def from_datetime(moment: datetime) -> int:
    """The reverse of `to_datetime`."""
    return int(moment.replace(tzinfo=UTC).timestamp())
