# SPDX-License-Identifier: MIT
"""Wires that other packages bring: entry points of the group ``htmengine.wires``, off unless configured.

In: an entry point's name.  Out: a `Wire`, which makes a `Reader` for each connection or request.  A reader gets bytes
and gives what is in them as `Received`; it knows no socket and no queue.  docs/sending.md has a whole package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import Protocol, TypeAlias

from htmengine.errors import InvalidBody, InvalidSample, StartError
from htmengine.labels import shown
from htmengine.messages import MAX_LINE_LENGTH
from htmengine.wires.samples import Received

GROUP = "htmengine.wires"


class Reader(Protocol):
    """Of one connection, or of one request's body."""

    def feed(self, data: bytes) -> Iterable[Received]:
        """What the next bytes bring.  Raises `InvalidBody` when nothing that follows can be read."""
        ...

    def end(self) -> Iterable[Received]:
        """What is left when no more bytes come."""
        ...


Wire: TypeAlias = Callable[[], Reader]


class LineReader:
    """A reader of lines, each of which harms itself alone: subclasses have `take`.

    >>> class Pairs(LineReader):
    ...     def take(self, line: str, received: Received) -> None:
    ...         name, value = line.split("=")
    ...         received.add(name, float(value), 60.0)
    >>> reader = Pairs()
    >>> [part] = reader.feed(b"cpu=1\\ndisk=x\\nload=")
    >>> part.samples[0][:3], part.details
    (('cpu', 1.0, 60.0), {'line_form': "'disk=x': could not convert string to float: 'x'"})
    """

    def __init__(self) -> None:
        self._rest = b""

    def take(self, line: str, received: Received) -> None:
        """One line that is not blank.  Raises `InvalidSample`, or ValueError, for one that is refused."""
        raise NotImplementedError

    def feed(self, data: bytes) -> Iterator[Received]:
        """See `Reader.feed`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_LENGTH:
            raise InvalidBody("line_too_long", f"a line has more than {MAX_LINE_LENGTH} bytes")
        yield self._read(lines)

    def end(self) -> Iterator[Received]:
        """See `Reader.end`."""
        yield self._read([self._rest])

    def _read(self, lines: Iterable[bytes]) -> Received:
        received = Received()
        for line in lines:
            if not line.isspace() and line:
                self._take(line, received)
        return received

    def _take(self, line: bytes, received: Received) -> None:
        try:
            self.take(line.decode(), received)
        except InvalidSample as bad:
            received.refuse(bad)
        except UnicodeDecodeError:
            received.reject("not_utf8", f"{line[:60]!r} is not UTF-8")
        except ValueError as error:
            received.reject("line_form", f"{shown(line.decode())}: {error}")


def wires_at(ports: str) -> dict[str, tuple[Wire, int]]:
    """Those of [metric_listener] wire_ports, with their ports.  Raises `StartError`."""
    pairs = [each.rpartition(":") for each in ports.split()]
    return {name: (_load("[metric_listener] wire_ports", name), int(port)) for name, _, port in pairs}


def wires_named(names: str) -> dict[str, Wire]:
    """Those of [web] wires.  Raises `StartError`."""
    return {name: _load("[web] wires", name) for name in names.split()}


def _load(option: str, name: str) -> Wire:
    """The wire of this name.  Raises `StartError` that names the option."""
    known = {each.name: each for each in entry_points(group=GROUP)}
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise StartError(f"{option}: no installed package has a wire {name!r}; there are: {there}")
    try:
        wire: Wire = known[name].load()
        wire()
    except Exception as error:
        raise StartError(f"{option}: the wire {name!r} ({known[name].value}) cannot be loaded: {error!r}") from None
    return wire
