# SPDX-License-Identifier: MIT
"""What can be asked of a part of a process: whether it can do its work now.

Services make probes of these; `htmengine.telemetry.health` asks them when somebody asks for ``/readyz``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

#: Raises `Unhealthy`, or another error, when something is wrong.
Probe = Callable[[], Awaitable[None]]


class Unhealthy(Exception):
    """Why a check fails, for the operator."""


def condition(holds: Callable[[], bool], why_not: Callable[[], str]) -> Probe:
    """Something that can be told at once."""

    async def probe() -> None:
        if not holds():
            raise Unhealthy(why_not())

    return probe


def runs(service: Any) -> Probe:
    """A Twisted service is started and not stopped."""
    return condition(lambda: bool(service.running), lambda: "does not run")


class TellsChecks(Protocol):
    """A part of a process that tells whether it can do its work."""

    def checks(self) -> Mapping[str, Probe]:
        """By the names under which ``/readyz`` shows them."""
