# SPDX-License-Identifier: MIT
"""Samples on their way from many sockets into one queue: lanes that take turns, and what becomes of their lines.

In: lines and samples from the sockets of `metric_listener`, each socket with a `Lane` of its own.  Out: messages on
the samples queue, which is short.  So a client that sends much waits with its own lines, and its neighbours' lines
pass it.
"""

from __future__ import annotations

import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeAlias

from twisted.logger import Logger

from htmengine.bus.interface import SAMPLES_LIMITS, Bus
from htmengine.errors import InvalidSample
from htmengine.messages import (
    MAX_FUTURE_S,
    MESSAGE_BYTES,
    MESSAGE_LINES,
    Reject,
    SampleBatch,
    encode_samples,
    line_at,
    line_bytes,
    runs,
    shown_line,
)
from htmengine.process import crash_points
from htmengine.process.figures import SECONDS, SIZES, Observations
from htmengine.process.reject_log import RejectLog
from htmengine.process.tasks import Tasks
from htmengine.process.twisted_types import Clock, Timer
from htmengine.wires.samples import Received, second

#: Rejected lines that a message shows.
SHOWN_REJECTS = 10

#: Reading pauses everywhere when lanes that have ended have left so much.
ENDED_BATCHES = 4

#: A line, when it came, who sent it, and its bytes in a message.
WaitingLine: TypeAlias = tuple[str, float, str, int]
_LINE, _CAME_AT, _SENDER, _SIZE = map(itemgetter, range(4))


@dataclass(frozen=True, slots=True)
class BatcherOptions:
    """Where batches go, and how large and old they grow."""

    queue_name: str
    batch_max_lines: int = MESSAGE_LINES
    batch_max_delay_s: float = 0.02
    max_future_s: float = MAX_FUTURE_S


class Lane:
    """The accepted lines of one socket, in order, until it is their turn.  ``sender`` is the socket's peer.

    ``on_pressure(True)`` asks the socket to pause when ``most`` lines, or ``most_bytes`` of them, wait,
    ``on_pressure(False)`` to go on when half of that is gone.

    >>> lane = Lane(2, print)
    >>> lane.put(["a 1 60"], 0.0)
    >>> lane.put(["a 2 120"], 0.5)
    True
    >>> lane.take(1, 1000)
    False
    [('a 1 60', 0.0, '', 9)]
    """

    def __init__(
        self, most: int, on_pressure: Callable[[bool], object], most_bytes: int = MESSAGE_BYTES, sender: str = ""
    ) -> None:
        self.sender = sender
        self._lines: deque[WaitingLine] = deque()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0  #: of the lines that wait
        self._on_pressure = on_pressure
        self.paused = False

    @property
    def waiting(self) -> int:
        """How many lines."""
        return len(self._lines)

    @property
    def full(self) -> bool:
        """Whether it has as much as it should."""
        return len(self._lines) >= self._most or self._bytes >= self._most_bytes

    def put(self, lines: Iterable[str], now: float) -> None:
        """Add lines, whether it is full or not."""
        self.put_all(
            [(line, now, self.sender, len(line) + 3 if line.isascii() else line_bytes(line)) for line in lines]
        )

    def put_all(self, lines: Sequence[WaitingLine]) -> None:
        """Add lines of another lane."""
        self._lines.extend(lines)
        self._bytes += _bytes(lines)
        if self.full and not self.paused:
            self.paused = True
            self._on_pressure(True)

    def take(self, most: int, most_bytes: int) -> list[WaitingLine]:
        """Remove the oldest lines, within a number of lines and bytes; one of any size is given alone."""
        taken: list[WaitingLine] = []
        size = 0
        while self._lines and len(taken) < most:
            added = self._lines[0][3]
            if taken and size + added > most_bytes:
                break
            taken.append(self._lines.popleft())
            size += added
        self._bytes -= size
        if self.paused and len(self._lines) <= self._most // 2 and self._bytes <= self._most_bytes // 2:
            self.paused = False
            self._on_pressure(False)
        return taken

    def take_all(self) -> list[WaitingLine]:
        """Remove all lines."""
        return self.take(self.waiting, self._bytes)


class SampleBatcher:
    """Collects accepted lines and rejects; publishes them by size and time, all lanes in turn.

    What is left of lanes that have ended comes first, so that whoever connects next cannot overtake it: many clients
    open a connection for each of their sendings.  ``on_pressure`` is told when that is too much, as a lane's is.
    """

    log = Logger()

    def __init__(
        self, bus: Bus, clock: Clock, options: BatcherOptions, tasks: Tasks, on_pressure: Callable[[bool], object]
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._options = options
        self._tasks = tasks
        self._lanes: deque[Lane] = deque()  #: those with lines, the next one to give some first
        #: What ended lanes have left.
        self.ended = Lane(ENDED_BATCHES * options.batch_max_lines, on_pressure, ENDED_BATCHES * MESSAGE_BYTES)
        self._waiting = 0  #: lines in all of them
        self._in_message = 0  #: lines that are being published
        self._rejected_since: Counter[str] = Counter()
        #: The last of them: reason, line, sender.
        self._shown: deque[tuple[str, bytes | str, str]] = deque(maxlen=SHOWN_REJECTS)
        self._timer: Timer | None = None
        self._publishing = False
        self._progress = bus.progress.stage("samples wait, but none is published", lambda: self.unpublished > 0)
        self._declared = False
        self._batch_ids = uuid.uuid4().hex
        self._serial = 0
        self.received = 0  #: lines, accepted or not
        self.batches = 0
        self.reject_log = RejectLog(clock.seconds)
        self.batch_lines = Observations(SIZES)
        self.publish_seconds = Observations(SECONDS)

    @property
    def rejected(self) -> Counter[str]:
        """Lines that were not accepted, by reason."""
        return self.reject_log.counts

    @property
    def under_pressure(self) -> bool:
        """Whether a client has to wait."""
        return self.ended.paused or any(lane.paused for lane in self._lanes)

    @property
    def unpublished(self) -> int:
        """Lines that were taken and are not known to be durable."""
        return self._waiting + self._in_message

    def take(self, lines: Sequence[bytes], lane: Lane) -> None:
        """Lines as they came, without their ends; blank ones are nothing."""
        try:
            texts = list(map(bytes.decode, lines))
        except UnicodeDecodeError:
            texts = [self._decoded(line, lane.sender) for line in lines]
        self._take_texts([text for text in texts if text and not text.isspace()], lane)

    def _decoded(self, line: bytes, sender: str) -> str:
        """A line as text; "" for one that is none."""
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.received += 1
            self.reject("not_utf8", line, sender)
            return ""

    def take_received(self, received: Received, lane: Lane) -> None:
        """What another protocol's reader has made of its client's bytes."""
        texts = [f"{sample.name} {sample.value!r} {second(sample.timestamp)}" for sample in received.samples]
        self._take_texts(texts, lane)
        self.take_rejects(received, lane.sender)

    def take_rejects(self, received: Received, sender: str) -> None:
        """What the reader has refused, and what it has left out."""
        for reason, count in received.rejected.items():
            self.received += count
            self._count_reject(reason, received.details[reason], sender, count)
            self._schedule()
        for reason, count in received.left_out.items():
            self.received += count
            self._rejected_since[reason] += count
            self._schedule()

    def _take_texts(self, texts: Sequence[str], lane: Lane) -> None:
        now = self._clock.seconds()
        self.received += len(texts)
        ahead = self._options.max_future_s
        accepted = []
        for text in texts:
            try:
                accepted.append(line_at(text, now, ahead))
            except Exception as error:  # one that nobody has thought of harms this line alone, too
                self._refuse(error, text, lane.sender)
        if accepted:
            if not lane.waiting:
                self._lanes.append(lane)
            lane.put(accepted, now)
            self._waiting += len(accepted)
            self._schedule()

    def _refuse(self, error: Exception, text: str, sender: str) -> None:
        if isinstance(error, InvalidSample):
            self.reject(error.reason, text, sender)
        else:
            self.log.error("a line cannot be read: {error!r}", error=error)
            self.reject("not_readable", text, sender)

    def end(self, lane: Lane) -> None:
        """Nothing will be put into this lane any more."""
        if lane.waiting:
            self._lanes.remove(lane)
            self.ended.put_all(lane.take_all())

    def reject(self, reason: str, line: bytes | str, sender: str) -> None:
        """Count a line that is not accepted."""
        self._count_reject(reason, line, sender, 1)
        self._schedule()

    def drop(self, reason: str, lines: int, sender: str) -> None:
        """Count lines that could not be kept."""
        self.received += lines
        self._count_reject(reason, f"{lines} lines", sender, lines)

    def _count_reject(self, reason: str, line: bytes | str, sender: str, lines: int) -> None:
        self._rejected_since[reason] += lines
        self._shown.append((reason, line, sender))
        self.reject_log.tell(reason, sender, line, lines)

    async def flush(self) -> None:
        """Publish all that was taken: fires when it is durable."""
        if not self._publishing:
            await self._publish()
        else:
            await self._tasks.finished()

    def _schedule(self) -> None:
        if self._waiting >= self._options.batch_max_lines:
            self._start_publishing()
        elif self._timer is None and not self._publishing:
            self._timer = self._clock.callLater(self._options.batch_max_delay_s, self._start_publishing)

    def _start_publishing(self) -> None:
        self._stop_timer()
        if not self._publishing:
            self._tasks.start(self._publish())

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def _publish(self) -> None:
        self._publishing = True
        self._stop_timer()
        try:
            if not self._declared:
                await self._bus.declare_queue(self._options.queue_name, limits=SAMPLES_LIMITS)
                self._declared = True
            while self._waiting or self._rejected_since:
                taken = self._next_lines()
                self._in_message = len(taken)
                body = self._body(taken)
                crash_points.reached("listener.publishing")
                with self.publish_seconds.timed(self._clock.seconds):
                    await self._bus.publish(self._options.queue_name, [body])
                crash_points.reached("listener.published")
                self._progress.finished()
                self.batches += 1
                self._in_message = 0
        finally:
            self._publishing = False

    def _next_lines(self) -> list[WaitingLine]:
        """A batch: what fits into it is shared by all lanes that have lines, after what is left of ended ones."""
        room, room_bytes = self._options.batch_max_lines, MESSAGE_BYTES
        taken = self.ended.take(room, room_bytes)
        turns = 0  #: lanes that have theirs in this round
        room, room_bytes = room - len(taken), room_bytes - _bytes(taken)
        while self._lanes and room > 0 and room_bytes > 0:
            if turns == 0:
                turns = len(self._lanes)
                share, share_bytes = max(1, room // turns), room_bytes // turns
            turns -= 1
            lane = self._lanes.popleft()
            given = lane.take(share, share_bytes)
            if lane.waiting:
                self._lanes.append(lane)
            taken += given
            room, room_bytes = room - len(given), room_bytes - _bytes(given)
        self._waiting -= len(taken)
        return taken

    def _body(self, taken: Sequence[WaitingLine]) -> bytes:
        self._serial += 1
        rejected = dict(self._rejected_since)
        self._rejected_since.clear()
        self.batch_lines.observe(len(taken))
        rejects = [Reject(reason, shown_line(line), sender) for reason, line, sender in self._shown]
        self._shown.clear()
        batch = SampleBatch(
            list(map(_LINE, taken)),
            f"{self._batch_ids}-{self._serial}",
            rejected,
            min(map(_CAME_AT, taken), default=None),
            runs(map(_SENDER, taken)),
            rejects,
        )
        return encode_samples(batch)


def _bytes(lines: Iterable[WaitingLine]) -> int:
    return sum(map(_SIZE, lines))
