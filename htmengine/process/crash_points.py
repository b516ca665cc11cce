# SPDX-License-Identifier: MIT
"""Named points at which a test has a process die: the moments between which a crash must make no difference.

Called by the services and the worker at each point; a process takes orders only if the environment variable
HTMENGINE_CRASH_AT holds some when it starts (`arm`), and without any a point costs a comparison.  The tests' harness is
tests/support/crashes.py.  Orders, separated by commas, are ``POINT[=VALUE][:TIMES][:hang]``: die as kill -9 would the
third time a point is reached (``storer.committed:3``), or when a row of that value is about to run
(``worker.running=666.0``); ``hang`` stops the process instead, as if it had lost itself in a loop.  If
HTMENGINE_CRASH_ONCE names a file, whoever dies makes it first, and nobody dies while it exists.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container, Mapping
from dataclasses import dataclass

from htmengine.errors import ConfigError

VARIABLE = "HTMENGINE_CRASH_AT"
ONCE_VARIABLE = "HTMENGINE_CRASH_ONCE"

#: The points, in the order in which a sample passes them.
POINTS = {
    "listener.publishing": "lines were read from sockets, their batch is not published",
    "listener.published": "a batch is in the samples queue, the listener goes on",
    "storer.received": "batches were taken from the samples queue",
    "storer.storing": "a transaction is complete but not committed",
    "storer.committed": "rows and outbox are stored, nothing is published",
    "storer.published": "the models have their messages, the batches are not acknowledged",
    "storer.acknowledged": "the batches are gone from the samples queue, the outbox is not cleared",
    "scheduler.received": "a message was taken from a shard's queue",
    "scheduler.answered": "a worker has run rows, nothing is published",
    "scheduler.published": "results are in the results queue, their messages are not acknowledged",
    "scheduler.acknowledged": "messages are gone from the shards' queues",
    "worker.running": "rows are about to run through a model",
    "worker.ran": "a model has learnt rows, no checkpoint has them",
    "worker.answering": "a turn is done, the scheduler does not know",
    "checkpoint.writing": "half of a checkpoint is written",
    "checkpoint.written": "a checkpoint is written beside the one that it replaces",
    "checkpoint.replaced": "a checkpoint has replaced the one before",
    "anomaly.received": "raw scores were taken from the results queue",
    "anomaly.storing": "a transaction of scores is complete but not committed",
    "anomaly.committed": "scores are stored, applications have no message yet",
    "anomaly.broadcast": "applications were told, the results are not acknowledged",
    "anomaly.acknowledged": "the results are gone from the results queue",
}

#: Those of alerts, in the order in which a high row passes them.  A row that is not high passes none of the last four.
ALERT_POINTS = {
    "alerts.received": "scored rows were taken from the alerts' queue",
    "alerts.judging": "a transaction of incidents and messages is complete but not committed",
    "alerts.judged": "incidents and messages are stored, the rows are not acknowledged",
    "alerts.claimed": "a message was taken from the table, the receiver knows nothing",
    "alerts.sent": "the receiver has accepted a message, the table does not say so",
}

#: Those of results that are written to another system.
EXPORT_POINTS = {"export.sent": "the receiver has taken results, the table does not say so"}

_ALL_POINTS = POINTS | ALERT_POINTS | EXPORT_POINTS


@dataclass(slots=True)
class Order:
    """What one point is to do."""

    value: float | None = None
    times: int = 1  #: die when the point is reached the last of these times
    hang: bool = False

    @classmethod
    def parse(cls, text: str) -> tuple[str, Order]:
        """The point and its order.  Raises `ConfigError`.

        >>> Order.parse("worker.running=666.0:2:hang")
        ('worker.running', Order(value=666.0, times=2, hang=True))
        """
        place, *options = text.strip().split(":")
        point, _, value = place.partition("=")
        if point not in _ALL_POINTS:
            raise ConfigError([f"{VARIABLE}: no crash point {point!r}; there are {', '.join(_ALL_POINTS)}"])
        try:
            times = [int(option) for option in options if option != "hang"] or [1]
            return point, cls(float(value) if value else None, times[-1], "hang" in options)
        except ValueError:
            raise ConfigError([f"{VARIABLE}: {text!r}; POINT[=VALUE][:TIMES][:hang] is allowed"]) from None


#: This process's orders.
_orders: dict[str, Order] = {}
_once: str | None = None


def arm(environ: Mapping[str, str]) -> None:
    """Take the orders of an environment.  Called at the start of every process.  Raises `ConfigError`."""
    global _once  # noqa: PLW0603 -- the points are reached from everywhere
    _orders.clear()
    _orders.update(Order.parse(text) for text in environ.get(VARIABLE, "").split(",") if text)
    _once = environ.get(ONCE_VARIABLE)


def reached(point: str, values: Container[float] = ()) -> None:
    """The process is at this point, with these values in hand; it may be its last."""
    if _orders:
        _obey(point, values)


def _obey(point: str, values: Container[float]) -> None:
    order = _orders.get(point)
    if order is None or not (order.value is None or order.value in values):
        return
    order.times -= 1
    if order.times == 0 and _may_die():
        os.kill(os.getpid(), signal.SIGSTOP if order.hang else signal.SIGKILL)


def _may_die() -> bool:
    if _once is None:
        return True
    try:
        os.close(os.open(_once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
