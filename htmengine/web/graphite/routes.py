# SPDX-License-Identifier: MIT
"""Graphite's HTTP routes, as Grafana's Graphite data source and Graphite's own clients ask for them.

Parameters come in the query or in a form; those that are not known are nothing, as in Graphite.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from htmengine.process.twisted_types import Clock
from htmengine.repository import reading
from htmengine.web.document import parse_query
from htmengine.web.graphite.functions import describe, function_named
from htmengine.web.graphite.paths import DERIVED, Node, Pattern, find_nodes
from htmengine.web.graphite.render import MOST_POINTS, metrics_of, render
from htmengine.web.graphite.series import Range, Series
from htmengine.web.graphite.times import parse_time, parse_zone
from htmengine.web.http import JSON, TEXT, Call, Reply, dump, reply
from htmengine.web.reader import Reader
from htmengine.web.refused import Refused
from htmengine.web.routes import Routes

T = TypeVar("T")

FORM = "application/x-www-form-urlencoded"
#: What we answer like.
GRAPHITE_VERSION = "1.1.10"
#: Points a series without maxDataPoints.
POINTS = 10_000
_MOST_NODES = 10_000
_WHOLE = re.compile(r"\+?[0-9]+")
#: Points that are encoded at once: each call keeps the interpreter from everybody else.
_ENCODED_AT_ONCE = 10_000


class Form:
    """The parameters of a request, from its query and its body."""

    def __init__(self, call: Call) -> None:
        pairs = parse_query(call.query)
        if call.request.method == b"POST" and call.content_type == FORM:
            pairs += parse_query(call.body(FORM).strip())
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.removesuffix("[]"), []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value of a parameter."""
        return self._values.get(name, [])

    def one(self, name: str, default: str = "") -> str:
        """The last value of a parameter."""
        return self._values.get(name, [default])[-1]

    def wanted(self, name: str) -> str:
        """As `one`.  Raises `Refused` when it is not there."""
        value = self.one(name)
        if not value:
            raise Refused(400, f"{name}: is missing", [(name, "is missing")])
        return value

    def points(self) -> int:
        """maxDataPoints; the default when it is 0 or, as in Graphite, no whole number.  Raises `Refused`."""
        text = self.one("maxDataPoints").strip()
        if not _WHOLE.fullmatch(text):
            return POINTS
        digits = text.lstrip("+0")
        if len(digits) > len(str(MOST_POINTS)) or int(digits or "0") > MOST_POINTS:
            detail = f"{text[:60]} is more than {MOST_POINTS}"
            raise Refused(400, f"maxDataPoints: {detail}", [("maxDataPoints", detail)])
        return int(digits or "0") or POINTS


@dataclass(frozen=True, slots=True)
class Graphite:
    """The handlers."""

    reader: Reader
    clock: Clock

    def add_to(self, routes: Routes) -> None:
        """All routes; a slash at the end changes nothing."""
        handlers: dict[str, Callable[[Call], Any]] = {
            "/render": self.render,
            "/metrics/find": self.find,
            "/metrics/expand": self.expand,
            "/metrics/index.json": self.index,
            "/functions": self.functions,
            "/functions/<name:function>": self.function,
            "/version": self.version,
            "/tags": self.nothing,
            "/tags/<name:tag>": self.nothing,
            "/tags/autoComplete/tags": self.nothing,
            "/tags/autoComplete/values": self.nothing,
            "/events/get_data": self.nothing,
        }
        for path, handler in handlers.items():
            routes.add(["GET", "POST"], path, "read", handler)

    async def render(self, call: Call) -> Reply:
        """Series as lists of [value, timestamp]."""
        form = Form(call)
        kind = form.one("format", "json")
        if kind not in _SERIES_FORMATS:
            raise _no_format(kind, _SERIES_FORMATS)
        targets, wanted = [each for each in form.all("target") if each], self._range(form)
        if not targets:
            raise Refused(400, "target: is missing", [("target", "is missing")])
        encode, content_type = _SERIES_FORMATS[kind]

        def read(conn: Connection) -> bytes:
            return encode(render(conn, targets, wanted))

        return Reply(await self.reader.compute(read), content_type)

    async def find(self, call: Call) -> Reply:
        """One level of the tree of names."""
        form = Form(call)
        kind = form.one("format", "treejson")
        if kind not in _NODE_FORMATS:
            raise _no_format(kind, _NODE_FORMATS)
        return await self._read(_find, Pattern.parse(form.wanted("query")), _NODE_FORMATS[kind])

    async def expand(self, call: Call) -> Reply:
        """The paths that globs match."""
        form = Form(call)
        patterns = [Pattern.parse(query) for query in form.all("query")]
        leaves = form.one("leavesOnly", "0") not in ("0", "false", "")
        return await self._read(_expand, patterns, leaves)

    async def index(self, call: Call) -> Reply:
        """The names of all series."""
        return await self._read(_index)

    async def functions(self, call: Call) -> Reply:
        """What functions there are, for query editors."""
        return reply(describe(Form(call).one("group") or None))

    async def function(self, call: Call) -> Reply:
        """One function."""
        name = call.path["function"]
        return reply(function_named(name).describe(name))

    async def version(self, call: Call) -> Reply:
        """The version of Graphite that we answer like."""
        return reply(GRAPHITE_VERSION)

    async def nothing(self, call: Call) -> Reply:
        """What we do not have: tags and events."""
        return reply([])

    def _range(self, form: Form) -> Range:
        zone = parse_zone(form.one("tz") or "UTC")
        now = self.clock.seconds()
        start = parse_time(form.one("from") or "-24h", now, zone, "from")
        end = parse_time(form.one("until") or "now", now, zone, "until")
        return Range(min(start, end), max(start, end), form.points())

    async def _read(self, view: Callable[..., Any], *args: Any) -> Reply:
        """A view of the database; made and encoded in its thread."""

        def read(conn: Connection) -> bytes:
            return dump(view(conn, *args))

        reading_it: Awaitable[bytes] = self.reader.read(read)
        return Reply(await reading_it)


# --- views ----------------------------------------------------------------------------------------------


def _json(found: list[Series]) -> bytes:
    return b"[" + b",".join(map(_json_series, found)) + b"]"


def _json_series(series: Series) -> bytes:
    head = dump({"target": series.name, "tags": {"name": series.path}})[:-1]
    points = (msgspec.json.encode(piece)[1:-1] for piece in _pieces(series.datapoints))
    return head + b',"datapoints":[' + b",".join(points) + b"]}"


def _raw(found: list[Series]) -> bytes:
    """A line each: ``name,start,end,step|values``."""
    return b"".join(
        f"{series.name},{series.start},{series.end},{series.step}|".encode()
        + ",".join(",".join(map(str, piece)) for piece in _pieces(series.values)).encode()
        + b"\n"
        for series in found
    )


def _pieces(items: Iterable[T]) -> Iterator[list[T]]:
    items = iter(items)
    while piece := list(itertools.islice(items, _ENCODED_AT_ONCE)):
        yield piece


def _no_format(kind: str, formats: Iterable[str]) -> Refused:
    allowed = ", ".join(sorted(formats))
    return Refused(400, f"format: {kind[:60]} is none of {allowed}", [("format", f"allowed are {allowed}")])


def _find(conn: Connection, pattern: Pattern, shown: Callable[[list[Node]], Any]) -> Any:
    return shown(_nodes(conn, pattern))


def _nodes(conn: Connection, pattern: Pattern) -> list[Node]:
    return find_nodes(pattern, metrics_of(conn, pattern))[:_MOST_NODES]


def _expand(conn: Connection, patterns: list[Pattern], leaves: bool) -> dict[str, list[str]]:
    nodes = [node for pattern in patterns for node in _nodes(conn, pattern)]
    return {"results": sorted({node.path for node in nodes if node.is_leaf or not leaves})}


def _index(conn: Connection) -> list[str]:
    names = reading.metrics_with_prefix(conn, "")
    return sorted({*names, *(f"{name}.{kind.value}" for name in names for kind in DERIVED)})


def _tree(nodes: list[Node]) -> list[dict[str, Any]]:
    return [
        {
            "text": node.name,
            "id": node.path,
            "leaf": int(node.is_leaf),
            "expandable": int(not node.is_leaf),
            "allowChildren": int(not node.is_leaf),
            "context": {},
        }
        for node in nodes
    ]


def _completer(nodes: list[Node]) -> dict[str, Any]:
    return {
        "metrics": [
            {
                "name": node.name,
                "path": node.path if node.is_leaf else f"{node.path}.",
                "is_leaf": str(int(node.is_leaf)),
            }
            for node in nodes
        ]
    }


_SERIES_FORMATS: dict[str, tuple[Callable[[list[Series]], bytes], str]] = {"json": (_json, JSON), "raw": (_raw, TEXT)}
_NODE_FORMATS: dict[str, Callable[[list[Node]], Any]] = {"treejson": _tree, "completer": _completer}
