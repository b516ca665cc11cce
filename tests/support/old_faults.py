# SPDX-License-Identifier: MIT
"""A service as it was before a fault was fixed: ``python -m tests.support.old_faults FAULT MODULE``.

What once stood still in silence stands still again, so that a test sees the watchdog tell it.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pika.adapters.twisted_connection import ClosableDeferredQueue
from twisted.internet.defer import Deferred

from htmengine.bus import amqp, amqp_publisher
from htmengine.bus.amqp_link import LOST
from tests.support import processes

ROOT = Path(__file__).parents[2]


def no_room_in_an_empty_queue() -> None:
    """A batch above the bound on bytes waits for room for ever."""
    amqp_publisher._free = lambda *_: 0


def full_queues_hold_up_broadcasts() -> None:
    """The queue of an application that went away, and that refuses what is too much, is waited for."""
    amqp_publisher.BROADCAST_ATTEMPTS = sys.maxsize


def cancelled_consumers_are_not_told() -> None:
    """RabbitMQ cancels a consumer with its queue; the subscription goes on waiting."""

    async def receive(self: amqp.AmqpSubscription, incoming: ClosableDeferredQueue | None) -> None:
        assert incoming is not None
        try:
            while True:
                self._arrived(await incoming.get())
        except LOST:
            await Deferred()

    amqp.AmqpSubscription._receive = receive  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (no_room_in_an_empty_queue, full_queues_hold_up_broadcasts, cancelled_consumers_are_not_told)
}


def start_with(faults: Mapping[str, Callable[[], None]]) -> processes.Start:
    """Starts services, those of these modules with their faults."""

    def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> processes.Process:
        *python, module = command
        fault = faults.get(module)
        words = [*python, __name__, fault.__name__, module] if fault else command
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return processes.start(words, log, {**environment, "PYTHONPATH": path})

    return start


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
