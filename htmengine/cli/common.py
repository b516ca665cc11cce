# SPDX-License-Identifier: MIT
"""What the commands share: errors as one line and a status, the examples in ``--help``, the way to an engine."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from htmengine.errors import HtmEngineError

P = ParamSpec("P")
T = TypeVar("T")


def example(command: str) -> str:
    """The epilogue of a command's ``--help``."""
    return f"\b\nExample:\n  {command}"


def failing_cleanly(command: Callable[P, T]) -> Callable[P, T]:
    """An error of ours, or of the operating system, is one line on standard error and status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except (HtmEngineError, OSError) as error:
            raise click.ClickException(str(error)) from None

    return wrapped
