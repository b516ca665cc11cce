# SPDX-License-Identifier: MIT
"""A way to a server that can stop carrying anything without closing, as a network does whose host is gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

_CHUNK_BYTES = 65_536


class BlackHole:
    """A TCP proxy on ``port``.  While it swallows, connections are accepted, and no byte passes in either direction."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._carries = threading.Event()
        self._carries.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self._carries.set()

    @contextlib.contextmanager
    def swallowing(self) -> Iterator[None]:
        """Nothing passes; afterwards all goes on, with the bytes that have come meanwhile."""
        self._carries.clear()
        try:
            yield
        finally:
            self._carries.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        self._carries.wait()
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
        back.start()
        self._carry(near, far)
        back.join()
        near.close()
        far.close()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(_CHUNK_BYTES):
                self._carries.wait()
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
