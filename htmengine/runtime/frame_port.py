# SPDX-License-Identifier: MIT
"""Carbon's frames: four bytes of length, and a pickle or a protobuf message of many samples.

In: a connection's bytes.  Out: the samples of each whole frame.  A frame that cannot be read is rejected alone; one
that is longer than carbon allows ends the connection, for there is no telling where the next begins.  So do many
frames in a row that cannot be read, for what sends them is no carbon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from htmengine.errors import InvalidBody
from htmengine.process.twisted_types import Timer
from htmengine.runtime.connections import Connection, ConnectionFactory
from htmengine.wires import pickle_frames, protobuf_frames
from htmengine.wires.samples import PART_SAMPLES, Received

#: Frames in a row that cannot be read, which end the connection.
MAX_BAD_FRAMES = 100

#: Samples that a connection may take at once.
TURN_SAMPLES = 2000

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class FrameForm:
    """What a port's frames are."""

    name: str
    read: Callable[[bytes], Iterator[Received]]  #: a part of its samples after the other
    max_bytes: int


PICKLE = FrameForm("pickle", pickle_frames.read_parts, pickle_frames.MAX_FRAME_BYTES)
PROTOBUF = FrameForm("protobuf", protobuf_frames.read_parts, protobuf_frames.MAX_FRAME_BYTES)


class FrameConnection(Connection):
    """One client's frames.  A long one is taken in many turns of the reactor; meanwhile no more is read."""

    def __init__(self, form: FrameForm, factory: ConnectionFactory, sender: str) -> None:
        super().__init__(factory, sender)
        self._form = form
        self._rest = bytearray()
        self._bad_frames = 0  #: in a row
        self._closed = False
        self._parts: Iterator[Received] | None = None  #: of the frame that is being taken
        self._next_turn: Timer | None = None

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        if self._closed:
            return
        self._rest += data
        if not self.busy:
            self._take_some()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._take_all()
        super().connectionLost(reason)

    def close(self) -> None:
        self._take_all()
        super().close()

    def _take_some(self) -> None:
        """What one turn of the reactor has time for."""
        taken, self.busy, self._next_turn = 0, True, None
        while self.busy and taken < TURN_SAMPLES:
            taken += self._take_part()
        if self.busy:
            self._next_turn = self._factory.clock.callLater(0, self._take_some)
        self.pause_or_resume()

    def _take_all(self) -> None:
        """All frames that are whole: there is no other turn."""
        if self._next_turn is not None and self._next_turn.active():
            self._next_turn.cancel()
        while self.busy:
            self._take_part()

    def _take_part(self) -> int:
        """The next part of a frame.  Returns what it weighs in samples; with nothing left it is not busy any more."""
        self._parts = self._parts or self._next_frame()
        if self._parts is None:
            self.busy = False
            return 0
        try:
            part = next(self._parts, None)
        except InvalidBody as bad:
            self._parts = None
            self.reject(bad.reason, bad.detail)
            self._count_bad()
            return 1
        if part is None:
            self._parts = None
            self._bad_frames = 0
            return 1
        self.batcher.take_received(part, self.lane)
        return len(part.samples) or PART_SAMPLES

    def _next_frame(self) -> Iterator[Received] | None:
        """One that is whole."""
        if self._closed or len(self._rest) < _LENGTH_BYTES:
            return None
        length = int.from_bytes(self._rest[:_LENGTH_BYTES])
        if length > self._form.max_bytes:
            self._refuse_length(length)
            return None
        end = _LENGTH_BYTES + length
        if len(self._rest) < end:
            return None
        frame = bytes(self._rest[_LENGTH_BYTES:end])
        del self._rest[:end]
        return self._form.read(frame)

    def _count_bad(self) -> None:
        self._bad_frames += 1
        if self._bad_frames >= MAX_BAD_FRAMES:
            advice = f"{MAX_BAD_FRAMES} frames in a row on the {self._form.name} port cannot be read"
            self._factory.advise(self.lane.sender, "bad_frames", f"{advice}; the connection is closed")
            self._end()

    def _refuse_length(self, length: int) -> None:
        name, most = self._form.name, self._form.max_bytes
        self.reject("frame_too_long", bytes(self._rest[:100]))
        self._factory.advise(
            self.lane.sender,
            "frame_too_long",
            f"a frame on the {name} port says that it has {length} bytes; at most {most} are allowed. Lines go to the"
            " line port (usually 2003), and each frame begins with its length in four bytes",
        )
        self._end()

    def _end(self) -> None:
        self._closed, self.busy = True, False
        self._rest.clear()
        self.close()
