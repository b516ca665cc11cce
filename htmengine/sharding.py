# SPDX-License-Identifier: MIT
"""Which shard a model belongs to, and the shards' queues: the same in every process, release and host."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


def shard_of(model_id: str, shards: int) -> int:
    """The shard of a model, in 0..shards - 1.

    >>> shard_of("3fb1", 16)
    14
    """
    return zlib.crc32(model_id.encode()) % shards


@dataclass(frozen=True, slots=True)
class ShardQueues:
    """The model input queues: ``<prefix>0`` to ``<prefix><count - 1>``."""

    prefix: str
    count: int

    @property
    def queues(self) -> list[str]:
        """All of them, in order."""
        return [f"{self.prefix}{shard}" for shard in range(self.count)]

    def queue_of(self, model_id: str) -> str:
        """The queue that a model's rows and commands go through."""
        return f"{self.prefix}{shard_of(model_id, self.count)}"
