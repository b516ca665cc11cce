# SPDX-License-Identifier: MIT
"""The routes of HTM Engine's skeleton application, and the page: what is not under a name of its own.

``PUT /<metric>`` gives a new metric a model, ``POST /<metric>`` sends ``value timestamp`` lines, ``GET /<metric>``
lists ``name value timestamp score``.  Every other route is more exact than these, and wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from mimetypes import guess_type
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Connection
from twisted.web.server import Request

from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.errors import MetricExists
from htmengine.repository import reading
from htmengine.repository.reading import DataRow, MetricRow, Span
from htmengine.web.api import Api
from htmengine.web.document import parse_json, refused
from htmengine.web.http import TEXT, Call, Flow, Reply, Stream
from htmengine.web.reader import shielded
from htmengine.web.refused import Refused
from htmengine.web.routes import Routes

ROWS_AT_ONCE = 5000

#: Names that other routes have, or will have.
RESERVED = frozenset(
    (
        "api",
        "events",
        "favicon.ico",
        "functions",
        "healthz",
        "metrics",
        "ping",
        "readyz",
        "render",
        "static",
        "tags",
        "version",
        "write",
    )
)
_PARAMS = ("min", "max")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What the routes use."""

    api: Api

    def add_to(self, routes: Routes) -> None:
        """The four methods of a metric."""
        routes.add(["PUT"], "/<name:metric>", "admin", self.put)
        routes.add(["POST"], "/<name:metric>", "send", self.post)
        routes.add(["GET"], "/<name:metric>", "read", self.get)
        routes.add(["DELETE"], "/<name:metric>", "admin", self.delete)

    async def put(self, call: Call) -> Reply:
        """A model for a new metric, of a range or of one that its data will tell."""
        name = await self._name(call)
        content: Any = call.request.content
        params = parse_json(content.read() or b"{}")
        if not isinstance(params, dict):
            raise Refused(400, "give an object with min and max")
        unknown = [(key[:60], f"unknown; allowed are {', '.join(_PARAMS)}") for key in params if key not in _PARAMS]
        if unknown:
            raise refused(unknown)
        row = await self.api.reader.read(reading.one_metric, name)
        if row is not None:
            raise MetricExists(name)
        await shielded(self.api.operations.by(call.who).monitor(ModelSpec.for_name(name, **params)))
        return Reply(status=201, content_type=TEXT, body=f"{name}\n".encode())

    async def post(self, call: Call) -> Reply:
        """Samples of a metric; an unknown name becomes a metric, as on the Graphite port."""
        return await self.api.send(
            call, await self._name(call), ("", "text/plain", "application/x-www-form-urlencoded")
        )

    async def get(self, call: Call) -> Stream:
        """All rows, as lines."""
        row = await self.api.reader.read(reading.find_metric, await self._name(call))

        async def write(request: Request) -> None:
            await self._write_rows(request, row)

        return Stream(write, TEXT)

    async def delete(self, call: Call) -> Reply:
        """Remove a metric, its rows and its model."""
        await shielded(self.api.operations.by(call.who).delete(await self._name(call)))
        return Reply(status=204, content_type="")

    async def _name(self, call: Call) -> str:
        """The metric's name.  HTM Engine's web applications took the whole path, and so called it ``/cpu``."""
        return await self.api.reader.read(_stored_name, _name(call))

    async def _write_rows(self, request: Request, metric: MetricRow) -> None:
        span = await self.api.reader.read(reading.span_of, metric.uid, None, None)
        async with Flow(request) as flow:
            while span.rows:
                lines, last = await self.api.reader.read(_part, metric, span)
                request.write(lines)
                await flow.room()
                span = Span(last + 1, span.last)


def _stored_name(conn: Connection, name: str) -> str:
    """The name with a slash before it, if only that is a metric's."""
    path = f"/{name}"
    is_path = reading.one_metric(conn, name) is None and reading.one_metric(conn, path) is not None
    return path if is_path else name


def _part(conn: Connection, metric: MetricRow, span: Span) -> tuple[bytes, int]:
    """The lines of the first rows of a span, and the last rowid of them."""
    rows = reading.rows_of(conn, metric.uid, span, ROWS_AT_ONCE)
    return _lines(metric.name, rows), rows[-1].rowid if rows else span.last


def _lines(name: str, rows: Sequence[DataRow]) -> bytes:
    scores = [math.nan if row.anomaly_score is None else row.anomaly_score for row in rows]
    lines = [f"{name} {row.value!r} {row.timestamp} {score!r}\n" for row, score in zip(rows, scores, strict=True)]
    return "".join(lines).encode()


def _name(call: Call) -> str:
    name = call.path["metric"]
    if name in RESERVED:
        raise Refused(404, "nothing is here")
    return name


# --- the page -------------------------------------------------------------------------------------------


class Page:
    """The dashboard: files of this package's folder ``static``, read once when they are first asked for."""

    def __init__(self) -> None:
        self._files: dict[str, Reply] = {}

    def add_to(self, routes: Routes) -> None:
        """``/`` and what is under ``/static/``; open to everybody, since they hold nothing of anybody's."""
        routes.add(["GET"], "/", None, self.index)
        routes.add(["GET"], "/static/<path:file>", None, self.file)

    async def index(self, call: Call) -> Reply:
        return self._reply("index.html")

    async def file(self, call: Call) -> Reply:
        return self._reply(call.path["file"])

    def _reply(self, name: str) -> Reply:
        if name not in self._files:
            self._files[name] = _load(name)
        return self._files[name]


def _load(name: str) -> Reply:
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/") or not all(part.isprintable() for part in parts):
        raise Refused(404, "nothing is here")
    file = resources.files(__package__).joinpath("static", *parts)
    if not file.is_file():
        raise Refused(404, "nothing is here")
    kind = guess_type(name)[0] or "application/octet-stream"
    content_type = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    return Reply(file.read_bytes(), content_type, headers={"Cache-Control": "no-cache"})
