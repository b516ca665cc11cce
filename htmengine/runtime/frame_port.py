# SPDX-License-Identifier: MIT
"""Carbon's frames: four bytes of length, and a pickle or a protobuf message of many samples.

In: a connection's bytes.  Out: the samples of each whole frame.  A frame that cannot be read is rejected alone; one
that is longer than carbon allows ends the connection, for there is no telling where the next begins.  So do many
frames in a row that cannot be read, for what sends them is no carbon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from htmengine.errors import InvalidBody
from htmengine.runtime.connections import Connection, ConnectionFactory
from htmengine.wires import pickle_frames, protobuf_frames
from htmengine.wires.samples import Received

#: Frames in a row that cannot be read, which end the connection.
MAX_BAD_FRAMES = 100

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class FrameForm:
    """What a port's frames are."""

    name: str
    read: Callable[[bytes], Received]
    max_bytes: int


PICKLE = FrameForm("pickle", pickle_frames.read_frame, pickle_frames.MAX_FRAME_BYTES)
PROTOBUF = FrameForm("protobuf", protobuf_frames.read_frame, protobuf_frames.MAX_FRAME_BYTES)


class FrameConnection(Connection):
    """One client's frames."""

    def __init__(self, form: FrameForm, factory: ConnectionFactory, sender: str) -> None:
        super().__init__(factory, sender)
        self._form = form
        self._rest = bytearray()
        self._bad_frames = 0  #: in a row
        self._closed = False

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        if self._closed:
            return
        self._rest += data
        for frame in self._frames():
            self._take(frame)

    def _frames(self) -> Iterator[bytes]:
        """The frames that are whole."""
        while not self._closed and len(self._rest) >= _LENGTH_BYTES:
            length = int.from_bytes(self._rest[:_LENGTH_BYTES])
            if length > self._form.max_bytes:
                self._refuse_length(length)
                return
            end = _LENGTH_BYTES + length
            if len(self._rest) < end:
                return
            frame = bytes(self._rest[_LENGTH_BYTES:end])
            del self._rest[:end]
            yield frame

    def _take(self, frame: bytes) -> None:
        try:
            received = self._form.read(frame)
        except InvalidBody as bad:
            self.reject(bad.reason, bad.detail)
            self._count_bad()
        else:
            self.batcher.take_received(received, self.lane)
            self._bad_frames = 0

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
        self._closed = True
        self._rest.clear()
        self.close()
