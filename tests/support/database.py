# SPDX-License-Identifier: MIT
"""A database without threads, for unit tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from htmengine.repository.engine import Database


class InlineDatabase:
    """A database whose transactions are done when they are asked for."""

    def __init__(self, database: Database) -> None:
        self.run_sync = database.run_sync

    async def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.run_sync(fn, *args, **kwargs)

    read = run
