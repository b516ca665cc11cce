# SPDX-License-Identifier: MIT
"""Carbon's pickles: what the frames of port 2004 carry, read without unpickling anything.

In: a frame's body, without its four bytes of length: ``[(path, (timestamp, value)), ...]``, pickled by protocol 0 to 5.
Out: a `Received`.  A pickle is a small program; only the opcodes that make lists, tuples, texts and numbers are
carried out here, and any other one refuses the frame by its name.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from htmengine.errors import InvalidBody, InvalidSample
from htmengine.labels import MAX_TEXT_BYTES, normalize
from htmengine.wires.samples import MAX_PARTS, PART_SAMPLES, Received, bound, joined, number

#: Carbon's own limit of a frame.
MAX_FRAME_BYTES = 1024 * 1024

#: Marks that are open at once; carbon's points need three.
MAX_MARKS = 16

#: Opcodes that are carried out at once: some milliseconds.
OPCODES_AT_ONCE = 10_000


def read_frame(body: bytes) -> Received:
    """Raises `InvalidBody` if it is no pickle of a list, or has an opcode that is not allowed.

    >>> import pickle
    >>> read_frame(pickle.dumps([("cpu", (60, 0.5))])).samples[0][:3]
    ('cpu', 0.5, 60.0)
    """
    return joined(read_parts(body))


def read_parts(body: bytes) -> Iterator[Received]:
    """As `read_frame`, a part at a time; it is empty while there is no sample yet."""
    if len(body) > MAX_FRAME_BYTES:
        raise InvalidBody("body_too_long", f"{len(body)} bytes; at most {MAX_FRAME_BYTES} are allowed")
    reader = _Reader(body)
    while not reader.read_on():
        yield Received()
    points = reader.made
    if not isinstance(points, list):
        raise InvalidBody("pickle_form", "the pickle holds no list of (path, (timestamp, value))")
    bound(len(points))
    names: dict[str, str] = {}
    for first in range(0, len(points), PART_SAMPLES):
        yield _part(points[first : first + PART_SAMPLES], names)


def _part(points: Sequence[Any], names: dict[str, str]) -> Received:
    """``names``: paths that were seen before, and what they are called."""
    received = Received()
    for point in points:
        try:
            path, (timestamp, value) = _pair(point)
            name = names.get(path)
            if name is None:
                name = names[path] = normalize(path)
            received.add(name, number(value), number(timestamp))
        except InvalidSample as bad:
            received.refuse(bad)
    return received


def _pair(point: Any) -> tuple[str, tuple[Any, Any]]:
    try:
        path, (timestamp, value) = point
        if isinstance(path, bytes) and len(path) <= MAX_TEXT_BYTES:
            path = path.decode()
    except (TypeError, ValueError):
        path = None
    if not isinstance(path, str):
        raise InvalidSample("pickle_form", "write (path, (timestamp, value)), the path a text")
    return path, (timestamp, value)


class _Reader:
    """The few opcodes, at most `MAX_PARTS`.  Each makes one object at most, so what they make is bounded as well."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self.stack: list[Any] = []  #: what was made since the last mark
        self._outer: list[list[Any]] = []  #: the stacks before each mark
        self.memo: dict[int, Any] = {}
        self.made: Any = None  #: what the pickle holds, at its end
        self._left = MAX_PARTS  #: opcodes that it may still have

    def read_on(self) -> bool:
        """Carry out some more opcodes; whether that was all."""
        body = self._body
        steps = _STEPS
        allowed = min(self._left, OPCODES_AT_ONCE)
        self._left -= allowed
        if not allowed:
            raise InvalidBody("too_many_samples", f"the pickle has more than {MAX_PARTS} opcodes")
        try:
            for _ in range(allowed):
                code = body[self._at]
                self._at += 1
                if code == _STOP:
                    self.made = self.stack.pop()
                    return True
                step = steps.get(code)
                if step is None:
                    raise _not_allowed(code)
                step(self)
        except (LookupError, ValueError, TypeError, AttributeError, struct.error):
            raise InvalidBody("not_a_pickle", f"the pickle is damaged or cut short at byte {self._at}") from None
        return False

    def take(self, count: int) -> bytes:
        """The next bytes."""
        taken = self._body[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("cut short")
        self._at += count
        return taken

    def unpack(self, form: struct.Struct) -> Any:
        """The next number."""
        found = form.unpack_from(self._body, self._at)[0]
        self._at += form.size
        return found

    def line(self) -> bytes:
        """The next bytes up to a newline."""
        end = self._body.index(b"\n", self._at)
        line = self._body[self._at : end]
        self._at = end + 1
        return line

    def mark(self) -> None:
        """What is made from here on belongs together."""
        if len(self._outer) >= MAX_MARKS:
            raise InvalidBody("pickle_form", f"lists and tuples within each other; at most {MAX_MARKS} are allowed")
        self._outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """What was made since the last mark, which goes."""
        made = self.stack
        self.stack = self._outer.pop()
        return made


_Step: TypeAlias = Callable[[_Reader], object]


def _push(read: Callable[[_Reader], Any]) -> _Step:
    def step(reader: _Reader) -> None:
        made = read(reader)
        reader.stack.append(made)

    return step


def _fixed(form: str) -> _Step:
    number_form = struct.Struct(form)
    return _push(lambda reader: reader.unpack(number_form))


def _counted(form: str, convert: Callable[[bytes], Any]) -> _Step:
    length = struct.Struct(form)
    return _push(lambda reader: convert(reader.take(reader.unpack(length))))


def _put(index: Callable[[_Reader], int]) -> _Step:
    return lambda reader: reader.memo.__setitem__(index(reader), reader.stack[-1])


def _get(index: Callable[[_Reader], int]) -> _Step:
    return _push(lambda reader: reader.memo[index(reader)])


def _tuple(size: int) -> _Step:
    def step(reader: _Reader) -> None:
        if len(reader.stack) < size:
            raise ValueError("too few for a tuple")
        reader.stack[-size:] = [tuple(reader.stack[-size:])]

    return step


def _append(reader: _Reader) -> None:
    item = reader.stack.pop()
    reader.stack[-1].append(item)


def _appends(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.stack[-1].extend(items)


def _text(encoded: bytes) -> str:
    return encoded.decode(errors="surrogatepass")


def _long(encoded: bytes) -> int:
    return int.from_bytes(encoded, "little", signed=True)


def _int_line(reader: _Reader) -> int:
    line = reader.line()
    return int(line) if line not in (b"00", b"01") else line == b"01"


def _string_line(reader: _Reader) -> str:
    """What Python 2 wrote of a text: its repr."""
    line = reader.line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
        raise ValueError("a text without quotes")
    return line[1:-1].decode("unicode_escape").encode("latin-1").decode()


def _uint1(reader: _Reader) -> int:
    return reader.take(1)[0]


def _uint4(reader: _Reader) -> int:
    return int.from_bytes(reader.take(4), "little")


def _decimal(reader: _Reader) -> int:
    return int(reader.line())


_STOP = ord(".")
_BY_NAME: dict[str, _Step] = {
    "PROTO": lambda reader: reader.take(1),
    "FRAME": lambda reader: reader.take(8),
    "MARK": _Reader.mark,
    "EMPTY_LIST": _push(lambda reader: []),
    "LIST": _push(_Reader.since_mark),
    "APPEND": _append,
    "APPENDS": _appends,
    "EMPTY_TUPLE": _push(lambda reader: ()),
    "TUPLE": _push(lambda reader: tuple(reader.since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "PUT": _put(_decimal),
    "BINPUT": _put(_uint1),
    "LONG_BINPUT": _put(_uint4),
    "MEMOIZE": _put(lambda reader: len(reader.memo)),
    "GET": _get(_decimal),
    "BINGET": _get(_uint1),
    "LONG_BINGET": _get(_uint4),
    "NONE": _push(lambda reader: None),
    "NEWTRUE": _push(lambda reader: True),
    "NEWFALSE": _push(lambda reader: False),
    "INT": _push(_int_line),
    "LONG": _push(lambda reader: int(reader.line().removesuffix(b"L"))),
    "FLOAT": _push(lambda reader: float(reader.line())),
    "BININT": _fixed("<i"),
    "BININT1": _fixed("<B"),
    "BININT2": _fixed("<H"),
    "BINFLOAT": _fixed(">d"),
    "LONG1": _counted("<B", _long),
    "LONG4": _counted("<I", _long),
    "STRING": _push(_string_line),
    "BINSTRING": _counted("<I", bytes.decode),
    "SHORT_BINSTRING": _counted("<B", bytes.decode),
    "UNICODE": _push(lambda reader: reader.line().decode("raw_unicode_escape")),
    "BINUNICODE": _counted("<I", _text),
    "SHORT_BINUNICODE": _counted("<B", _text),
    "BINUNICODE8": _counted("<Q", _text),
    "BINBYTES": _counted("<I", bytes),
    "SHORT_BINBYTES": _counted("<B", bytes),
    "BINBYTES8": _counted("<Q", bytes),
}
_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_STEPS = {code: _BY_NAME[name] for code, name in _NAMES.items() if name in _BY_NAME}


def _not_allowed(code: int) -> InvalidBody:
    if code not in _NAMES:
        return InvalidBody("not_a_pickle", f"the byte {code:#04x} is no opcode of a pickle")
    return InvalidBody(
        "pickle_opcode", f"the opcode {_NAMES[code]} is not allowed; only lists, tuples, texts and numbers are read"
    )
