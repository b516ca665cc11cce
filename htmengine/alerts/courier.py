# SPDX-License-Identifier: MIT
"""Delivers the messages of one receiver, one after the other, however long that takes.

In: the receiver's rows in the table alert_delivery.  Out: attempts to send them; each row ends as delivered or given
up.  A receiver that hangs or fails holds up nobody else.  Owned by `htmengine.alerts.service`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from htmengine.alerts import queries as alert_queries
from htmengine.alerts.incident_messages import Message
from htmengine.alerts.queries import DeliveryState, QueuedMessage
from htmengine.alerts.receivers import Alertmanager, Receiver, described
from htmengine.errors import DeliveryFailed
from htmengine.process import crash_points
from htmengine.process.twisted_types import Clock
from htmengine.repository.engine import Database
from htmengine.repository.quarantine import reason_of

#: The first failure is followed by another attempt after this, each further one after twice the time.
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 600.0
#: How often the table is looked at for what another process has put there.
POLL_S = 5.0
#: A message that was taken out is free again this long after its attempt should have ended.
LEASE_MARGIN_S = 5.0


class Sends(Protocol):
    """What `htmengine.alerts.sender.Sender` does."""

    async def send(self, receiver: Receiver, notification: Message, delivery_id: str) -> str:
        """One attempt; what came back.  Raises `DeliveryFailed`."""
        ...

    async def send_all(self, receiver: Alertmanager, notifications: Sequence[Message]) -> str:
        """Several alerts in one request.  Raises `DeliveryFailed`."""
        ...


def retry_delay(attempts: int, retry_after_s: float = 0.0) -> float:
    """Seconds to the next attempt.

    >>> [retry_delay(attempts) for attempts in (1, 2, 3, 20)], retry_delay(1, retry_after_s=30.0)
    ([2.0, 4.0, 8.0, 600.0], 30.0)
    """
    return max(min(FIRST_RETRY_S * 2.0 ** min(attempts - 1, 30), LONGEST_RETRY_S), retry_after_s)


class Courier:
    """Runs until it is stopped."""

    log = Logger()

    def __init__(
        self, *, receiver: Receiver, sender: Sends, database: Database, clock: Clock, give_up_s: float
    ) -> None:
        self.name = receiver.name
        self._receiver = receiver
        self._sender = sender
        self._database = database
        self._clock = clock
        self._give_up_s = give_up_s
        self._stopped = False
        self._pause: Deferred[None] | None = None
        self._sending: Deferred[str] | None = None
        self.delivered = 0
        self.failed = 0  #: attempts
        self.given_up = 0

    async def run(self) -> None:
        """Deliver what is due, and wait for more."""
        while not self._stopped:
            due = await self._database.read(alert_queries.next_due, self._receiver.name)
            now = self._clock.seconds()
            if due is None or due > now:
                await self._wait(POLL_S if due is None else min(due - now, POLL_S))
            else:
                await self._deliver_next(now)

    def wake(self) -> None:
        """There may be something to deliver."""
        if self._pause is not None:
            pause, self._pause = self._pause, None
            pause.callback(None)

    def stop(self) -> None:
        """End `run` soon; a message that is on its way is sent again after the next start."""
        self._stopped = True
        self.wake()
        if self._sending is not None:
            self._sending.cancel()

    async def _wait(self, seconds: float) -> None:
        pause: Deferred[None] = Deferred()
        self._pause = pause
        timer = self._clock.callLater(seconds, self.wake)
        await pause
        if timer.active():
            timer.cancel()

    async def _deliver_next(self, now: float) -> None:
        lease_s = self._receiver.timeout_s + LEASE_MARGIN_S
        delivery = await self._database.run(alert_queries.claim_delivery, self._receiver.name, now, lease_s)
        if delivery is None or self._stopped:
            return
        crash_points.reached("alerts.claimed")
        self._sending = Deferred.fromCoroutine(self._sender.send(self._receiver, delivery.notification, delivery.id))
        try:
            answer = await self._sending
        except Exception as error:
            if self._stopped:
                await self._database.run(alert_queries.postpone_delivery, delivery.id, now, "interrupted")
            else:
                await self._failed(delivery, error if isinstance(error, DeliveryFailed) else _unexpected(error))
        else:
            crash_points.reached("alerts.sent")
            self.delivered += 1
            await self._end(delivery, DeliveryState.DELIVERED, answer)
        finally:
            self._sending = None

    async def _failed(self, delivery: QueuedMessage, failure: DeliveryFailed) -> None:
        self.failed += 1
        next_at = self._clock.seconds() + retry_delay(delivery.attempts, failure.retry_after_s)
        last = next_at > delivery.created_at + self._give_up_s
        self.log.warn(
            "alert message {delivery} was not accepted by {receiver} (attempt {attempts}, {next}): {failure}",
            delivery=delivery.id,
            receiver=described(self._receiver),
            attempts=delivery.attempts,
            next="given up" if last else "is tried again",
            failure=failure,
        )
        if last:
            self.given_up += 1
            await self._end(delivery, DeliveryState.GIVEN_UP, str(failure))
        else:
            await self._database.run(alert_queries.postpone_delivery, delivery.id, next_at, str(failure))

    async def _end(self, delivery: QueuedMessage, state: DeliveryState, answer: str) -> None:
        await self._database.run(alert_queries.end_delivery, delivery.id, state, self._clock.seconds(), answer)


def _unexpected(error: Exception) -> DeliveryFailed:
    """What nobody has thought of harms the message alone."""
    return DeliveryFailed(reason_of(error))
