# SPDX-License-Identifier: MIT
"""Graphite's HTTP routes, as Grafana's Graphite data source and Graphite's own clients ask for them.

Parameters come in the query or in a form; those that are not known are nothing, as in Graphite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from htmengine.process.twisted_types import Clock
from htmengine.repository import reading
from htmengine.repository.name_tree import names_in_tree
from htmengine.web.document import parse_query
from htmengine.web.graphite import tags
from htmengine.web.graphite.events import events_of
from htmengine.web.graphite.formats import JSON_WITHOUT_NULLS, NODE_FORMATS, SERIES_FORMATS, format_named
from htmengine.web.graphite.functions import describe, function_named
from htmengine.web.graphite.paths import DERIVED, Node, Pattern, find_nodes
from htmengine.web.graphite.render import MOST_POINTS, metrics_of, render
from htmengine.web.graphite.series import Range
from htmengine.web.graphite.times import parse_time, parse_zone
from htmengine.web.http import JSON, Call, Reply, dump, dump_list, reply
from htmengine.web.reader import Reader
from htmengine.web.refused import Refused
from htmengine.web.routes import Routes
from htmengine.web.views import encoded

FORM = "application/x-www-form-urlencoded"
#: What we answer like.
GRAPHITE_VERSION = "1.1.10"
#: Points a series without maxDataPoints.
POINTS = 10_000
_MOST_NODES = 10_000
#: Metrics of a branch that are looked at; databases may find some that differ in upper and lower case.
_PROBED = 100
#: Tags or values that are offered, unless more are asked for.
_TAGS = 100
_WHOLE = re.compile(r"\+?[0-9]+")
JAVASCRIPT = "text/javascript; charset=utf-8"


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

    def limit(self) -> int:
        """limit, at most and by default so many."""
        text = self.one("limit").strip()
        return min(int(text), _MOST_NODES) if re.fullmatch("[0-9]{1,9}", text) else _TAGS


def _callback(form: Form) -> str:
    """The function that JSONP calls.  Raises `Refused` unless it is a name."""
    name = form.one("jsonp")
    if name and not re.fullmatch(r"[A-Za-z_$][\w$.]{0,99}", name, re.ASCII):
        raise Refused(400, "jsonp: is not the name of a function", [("jsonp", "is not the name of a function")])
    return name


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
            "/tags": self.tags,
            "/tags/<name:tag>": self.tag,
            "/tags/findSeries": self.find_series,
            "/tags/autoComplete/tags": self.complete_tags,
            "/tags/autoComplete/values": self.complete_values,
            "/events/get_data": self.events,
        }
        for path, handler in handlers.items():
            routes.add(["GET", "POST"], path, "read", handler)

    async def render(self, call: Call) -> Reply:
        """Series as lists of [value, timestamp]."""
        form = Form(call)
        shown, callback = format_named(form.one("format", "json"), SERIES_FORMATS), _callback(form)
        if shown is SERIES_FORMATS["json"] and form.all("noNullPoints"):
            shown = JSON_WITHOUT_NULLS
        targets, zone = [each for each in form.all("target") if each], parse_zone(form.one("tz") or "UTC")
        wanted = self._range(form)
        if not targets:
            raise Refused(400, "target: is missing", [("target", "is missing")])

        def read(conn: Connection) -> bytes:
            return shown.encode(render(conn, targets, wanted), zone)

        body = await self.reader.compute(read)
        if callback and shown.content_type == JSON:
            return Reply(f"{callback}(".encode() + body + b")", JAVASCRIPT)
        return Reply(body, shown.content_type)

    async def find(self, call: Call) -> Reply:
        """One level of the tree of names."""
        form = Form(call)
        shown, pattern = format_named(form.one("format", "treejson"), NODE_FORMATS), Pattern.parse(form.wanted("query"))

        def read(conn: Connection) -> bytes:
            return shown.encode(_nodes(conn, pattern))

        return Reply(await self.reader.read(read), shown.content_type)

    async def expand(self, call: Call) -> Reply:
        """The paths that globs match."""
        form = Form(call)
        patterns = [Pattern.parse(query) for query in form.all("query")]
        leaves = form.one("leavesOnly", "0") not in ("0", "false", "")
        return await self._read(_expand, patterns, leaves)

    async def index(self, call: Call) -> Reply:
        """The names of all series."""
        return Reply(await self.reader.read(_index))

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

    async def tags(self, call: Call) -> Reply:
        """All tags of metrics."""
        return await self._read(_tag_list)

    async def tag(self, call: Call) -> Reply:
        """The values of a tag."""
        return Reply(await self.reader.read(_tag, call.path["tag"]))

    async def find_series(self, call: Call) -> Reply:
        """The names of metrics by their tags."""
        form = Form(call)
        form.wanted("expr")
        return Reply(await self.reader.read(_tagged, form.all("expr")))

    async def complete_tags(self, call: Call) -> Reply:
        """Tags that a query editor may offer."""
        form = Form(call)
        return await self._read(_complete_tags, form.all("expr"), form.one("tagPrefix"), form.limit())

    async def complete_values(self, call: Call) -> Reply:
        """Values of a tag that it may offer."""
        form = Form(call)
        return await self._read(
            _complete_values, form.one("tag"), form.all("expr"), form.one("valuePrefix"), form.limit()
        )

    async def events(self, call: Call) -> Reply:
        """Incidents, for annotations."""
        form = Form(call)
        every = form.one("set", "intersection") != "union"
        return await self._read(events_of, self._range(form), form.one("tags").split(), every)

    def _range(self, form: Form) -> Range:
        zone = parse_zone(form.one("tz") or "UTC")
        now = self.clock.seconds()
        start = parse_time(form.one("from") or "-24h", now, zone, "from")
        end = parse_time(form.one("until") or "now", now, zone, "until")
        return Range(min(start, end), max(start, end), form.points())

    async def _read(self, view: Callable[..., Any], *args: Any) -> Reply:
        """A view of the database; made and encoded in its thread."""
        return Reply(await self.reader.read(encoded, view, *args))


# --- views ----------------------------------------------------------------------------------------------


def _nodes(conn: Connection, pattern: Pattern) -> list[Node]:
    if pattern.prefix == pattern.text:  # no wildcard: a branch is told by some of its metrics
        names = [*metrics_of(conn, pattern), *reading.metrics_with_prefix(conn, f"{pattern.text}.", _PROBED)]
        return find_nodes(pattern, sorted(names), _MOST_NODES)
    names_of_tree = names_in_tree(conn, pattern.stem, pattern.rough, len(pattern.nodes))
    return find_nodes(pattern, names_of_tree, _MOST_NODES)


def _expand(conn: Connection, patterns: list[Pattern], leaves: bool) -> dict[str, list[str]]:
    nodes = [node for pattern in patterns for node in _nodes(conn, pattern)]
    return {"results": sorted({node.path for node in nodes if node.is_leaf or not leaves})}


def _index(conn: Connection) -> bytes:
    """In the order of the metrics, and never all at once: that would hold every other thread."""
    kinds = [kind.value for kind in DERIVED]
    taken = {name for name, _ in reading.each_metric(conn) if name.rpartition(".")[2] in kinds}

    def paths() -> Iterator[str]:
        for name, _ in reading.each_metric(conn):
            yield name
            yield from (path for kind in kinds if (path := f"{name}.{kind}") not in taken)

    return dump_list(paths())


def _tag_list(conn: Connection) -> list[dict[str, str]]:
    return [{"tag": tag} for tag in tags.tag_names(conn, [], "")]


def _tag(conn: Connection, tag: str) -> bytes:
    values = tags.tag_values(conn, tag, [], "")
    shown = dump_list({"value": value, "count": values[value]} for value in sorted(values))
    return b'{"tag":' + dump(tag) + b',"values":' + shown + b"}"


def _complete_tags(conn: Connection, conditions: list[str], prefix: str, most: int) -> list[str]:
    given = {tags.tag_of(condition) for condition in conditions}
    return [tag for tag in tags.tag_names(conn, conditions, prefix) if tag not in given][:most]


def _complete_values(conn: Connection, tag: str, conditions: list[str], prefix: str, most: int) -> list[str]:
    return sorted(tags.tag_values(conn, tag, conditions, prefix))[:most]


def _tagged(conn: Connection, conditions: list[str]) -> bytes:
    return dump_list(each.name for each in tags.find_tagged(conn, conditions))
