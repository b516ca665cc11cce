# SPDX-License-Identifier: MIT
"""The API under /api/v1: a handler for each operation of the OpenAPI document, found by its operationId.

In: calls that may go on.  Out: JSON.  docs/http-api.md describes all of it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import msgspec
from sqlalchemy import Connection
from twisted.web.server import Request

from htmengine.adapters.datasource.custom import DATASOURCE, ModelSpec, least_samples
from htmengine.adapters.datasource.evidence_columns import bucketed, evidence_columns
from htmengine.adapters.datasource.why import why_at
from htmengine.errors import UnroutableMessage
from htmengine.incidents.hold_off import learning
from htmengine.incidents.queries import learnt_since
from htmengine.messages import MAX_SENDER_LENGTH, Reject, shown_line
from htmengine.operations import Operations
from htmengine.process.reject_log import RejectLog
from htmengine.process.twisted_types import Reactor, in_thread
from htmengine.repository import queries, reading, rejects, troubles
from htmengine.repository.queries import MetricStatus
from htmengine.repository.reading import AnomalyKey, AnomalyQuery, Bucket, MetricQuery, MetricRow, PageKey, Span
from htmengine.repository.row_spans import filled_gaps
from htmengine.repository.times import from_datetime
from htmengine.repository.troubles import Trouble
from htmengine.web.access import SESSION_COOKIE, SESSION_S, Access, Client, Scope
from htmengine.web.document import Document, Operation
from htmengine.web.events import EventFeed, Filter
from htmengine.web.http import JSON, Call, Handler, Reply, Stream, header, reply
from htmengine.web.incidents import IncidentsApi
from htmengine.web.maintenance import MaintenanceApi
from htmengine.web.peers import Peers
from htmengine.web.reader import Reader, shielded
from htmengine.web.refused import Refused
from htmengine.web.routes import Routes
from htmengine.web.rules import RulesApi
from htmengine.web.samples import RefusedSamples, read_json, read_text
from htmengine.web.senders import sender_of
from htmengine.web.views import (
    anomaly_json,
    bucket_of,
    decode_key,
    encode_key,
    encoded,
    evidence_json,
    metric_json,
    parameters_json,
    plot_columns,
    round_step,
    sparkline,
)
from htmengine.wires.compression import decompress

#: Bytes of a compressed body of samples, decompressed.
MOST_DECOMPRESSED = 10 << 20
#: Rejected samples that one message shows.
SHOWN_REJECTS = 10
TEXT_LINES = "text/plain"
#: As the document has it: what JavaScript counts to.
GREATEST_EVENT_ID = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Api:
    """What the handlers use.  ``secure``: cookies are for TLS only."""

    operations: Operations
    reader: Reader
    feed: EventFeed
    access: Access
    reactor: Reactor
    document: Document
    started: float
    queues: Mapping[str, Sequence[str]]  #: by stage
    peers: Peers
    incidents: IncidentsApi
    rules: RulesApi
    maintenance: MaintenanceApi
    graphite: Callable[[], tuple[str, int]]  #: host and port of the listener; port 0: not known
    anomaly_floor: float
    trusted_proxies: frozenset[str]
    reject_log: RejectLog
    secure: bool

    def add_to(self, routes: Routes) -> None:
        """Let each operation of the document have its handler."""
        for operation in self.document.operations.values():
            parts = (self, self.incidents, self.rules, self.maintenance)
            part = next(part for part in parts if hasattr(part, operation.name))
            handler: Handler = getattr(part, operation.name)
            path = re.sub(r"\{(\w+)\}", r"<name:\1>", operation.path)
            routes.add([operation.method], path, operation.scope, _checked(operation, handler))

    # --- the document and sessions ----------------------------------------------------------------------

    async def get_openapi(self, call: Call) -> Reply:
        return reply(self.document.source)

    async def get_session(self, call: Call) -> Reply:
        cookie = call.request.getCookie(SESSION_COOKIE.encode())
        try:
            client = self.access.client(header(call.request, "Authorization"), cookie and cookie.decode("latin-1"))
        except Refused:
            client = self.access.client(None, None)
        return reply(self._session(client))

    async def start_session(self, call: Call) -> Reply:
        body = self._body(call, "start_session")
        client = self.access.client_of_token(body["token"])
        cookie = self._cookie(self.access.session(client), SESSION_S)
        return reply(self._session(client), headers={"Set-Cookie": cookie})

    async def end_session(self, call: Call) -> Reply:
        return Reply(status=204, content_type="", headers={"Set-Cookie": self._cookie("", 0)})

    def _session(self, client: Client) -> dict[str, Any]:
        return {
            "tokens": self.access.rules.tokens,
            "name": client.name,
            "read": Scope.READ in client.scope,
            "operate": Scope.OPERATE in client.scope,
            "write": Scope.ADMIN in client.scope,
        }

    def _cookie(self, value: str, seconds: int) -> str:
        secure = "; Secure" if self.secure else ""
        return f"{SESSION_COOKIE}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}"

    # --- metrics ----------------------------------------------------------------------------------------

    async def list_metrics(self, call: Call) -> Reply:
        given = self._query(call, "list_metrics")
        statuses = [MetricStatus[name] for name in given.get("status", ())]
        query = MetricQuery(given.get("search", ""), statuses, given["sort"] == "anomaly")
        after = PageKey(*decode_key(given["after"], [str, float])) if "after" in given else None
        return await self._read(_metrics, query, after, given["limit"])

    async def create_metric(self, call: Call) -> Reply:
        body = self._body(call, "create_metric")
        monitor = body.pop("monitor", False)
        spec = ModelSpec.parse({"datasource": DATASOURCE, **body})
        if monitor:
            spec.params()  # an impossible model is refused before the metric is made
        metric = await shielded(self.operations.by(call.who).create(spec))
        if monitor:
            await shielded(self.operations.by(call.who).monitor(spec))
        row = await self.reader.read(reading.find_metric, metric.uid)
        return reply(metric_json(row), 201, {"Location": f"/api/v1/metrics/{metric.uid}"})

    async def get_metric(self, call: Call) -> Reply:
        return await self._read(_metric, call.path["metric"])

    async def delete_metric(self, call: Call) -> Reply:
        await shielded(self.operations.by(call.who).delete(call.path["metric"]))
        return Reply(status=204, content_type="")

    async def put_model(self, call: Call) -> Reply:
        body = self._body(call, "put_model")
        row = await self.reader.read(reading.find_metric, call.path["metric"])
        metric = await shielded(self.operations.by(call.who).monitor(ModelSpec.parse({**_spec(row), **body})))
        return reply(metric_json(await self.reader.read(reading.find_metric, metric.uid)))

    async def delete_model(self, call: Call) -> Reply:
        metric = await shielded(self.operations.by(call.who).unmonitor(call.path["metric"]))
        return reply(metric_json(await self.reader.read(reading.find_metric, metric.uid)))

    # --- rows -------------------------------------------------------------------------------------------

    async def get_data(self, call: Call) -> Reply:
        given = self._query(call, "get_data")
        return await self._read(_data, call.path["metric"], given)

    async def get_plot(self, call: Call) -> Reply:
        given = self._query(call, "get_plot")
        return await self._read(_plot, call.path["metric"], given.get("from"), given.get("until"), given["points"])

    async def get_evidence(self, call: Call) -> Reply:
        given = self._query(call, "get_evidence")
        return await self._compute(
            _evidence, call.path["metric"], given.get("from"), given.get("until"), given["points"]
        )

    async def get_why(self, call: Call) -> Reply:
        return await self._read(_why, call.path["metric"], self._query(call, "get_why")["at"])

    async def get_sparklines(self, call: Call) -> Reply:
        given = self._query(call, "get_sparklines")
        return await self._read(_sparklines, given["uid"], given["rows"])

    async def post_metric_samples(self, call: Call) -> Reply:
        row = await self.reader.read(reading.find_metric, call.path["metric"])
        return await self.send(call, row.name)

    async def post_samples(self, call: Call) -> Reply:
        return await self.send(call, None)

    async def _decompressed(self, call: Call, body: bytes) -> bytes:
        encoding = header(call.request, "Content-Encoding")
        if not encoding:
            return body
        return await in_thread(
            self.reactor, self.reactor.getThreadPool(), decompress, body, encoding, MOST_DECOMPRESSED
        )

    async def send(self, call: Call, metric: str | None, types: Sequence[str] = (JSON, TEXT_LINES)) -> Reply:
        """Samples of one metric, or of those that they name."""
        lines = await self._lines(call, metric, types)
        await shielded(self.operations.send(lines, self._sender(call.request)))
        return reply({"accepted": len(lines)}, 202)

    async def _lines(self, call: Call, metric: str | None, types: Sequence[str]) -> list[str]:
        """A request's samples as lines; the bad ones of one that is refused are counted."""
        body = await self._decompressed(call, call.body(*types))
        read = read_json if call.content_type == JSON else read_text
        pool = self.reactor.getThreadPool()  # thousands of samples keep a reactor busy for too long
        try:
            return await in_thread(
                self.reactor, pool, read, body, metric, self.reactor.seconds(), self.operations.max_future_s
            )
        except RefusedSamples as refused:
            await shielded(self._tell_rejects(refused, self._sender(call.request)))
            raise

    async def post_history(self, call: Call) -> Reply:
        monitor = self._query(call, "post_history")["monitor"]
        lines = await self._lines(call, None, (JSON, TEXT_LINES))
        series: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for line in lines:
            name, value, timestamp = line.split()
            series[name].append((int(timestamp), float(value)))
        operations = self.operations.by(call.who)
        new = [await shielded(operations.load(name, rows, monitor=monitor)) for name, rows in series.items()]
        return reply({"accepted": len(lines), "new": sum(new)})

    async def rebuild_metric(self, call: Call) -> Reply:
        done = await shielded(self.operations.by(call.who).rebuild(call.path["metric"]))
        return reply(
            {"name": done.name, "joined": done.joined, "duplicates": done.duplicates, "status": done.status.name}
        )

    def _sender(self, request: Request) -> str:
        peer = str(getattr(request.getClientAddress(), "host", ""))
        return sender_of(peer, header(request, "X-Forwarded-For"), self.trusted_proxies)[:MAX_SENDER_LENGTH]

    async def _tell_rejects(self, refused: RefusedSamples, sender: str) -> None:
        """Have the bad ones of a request counted, none of which is taken."""
        counts, first = Counter(reason for reason, _ in refused.samples), dict(reversed(refused.samples))
        for reason, count in counts.items():
            self.reject_log.tell(reason, sender, shown_line(first[reason]), count)
        shown = [Reject(reason, shown_line(line), sender) for reason, line in refused.samples[:SHOWN_REJECTS]]
        await self.operations.tell_rejects(counts, shown)

    # --- over all metrics -------------------------------------------------------------------------------

    async def list_anomalies(self, call: Call) -> Reply:
        given = self._query(call, "list_anomalies")
        threshold = given["threshold"]
        if threshold < self.anomaly_floor:
            detail = f"{threshold} is less than {self.anomaly_floor}, the least score that is kept"
            raise Refused(422, f"threshold: {detail}", [("threshold", detail)])
        after = AnomalyKey(*decode_key(given["after"], [int, str, int])) if "after" in given else None
        query = AnomalyQuery(threshold, given.get("from"), given.get("until"), given.get("search", ""))
        return await self._read(_anomalies, query, given.get("metric"), after, given["limit"])

    async def get_ledger(self, call: Call) -> Reply:
        return reply((await self.operations.ledger()).to_json())

    async def get_metric_ledger(self, call: Call) -> Reply:
        return reply((await self.operations.ledger(call.path["metric"])).to_json())

    async def list_rejects(self, call: Call) -> Reply:
        return await self._read(_rejects, self._query(call, "list_rejects").get("reason"))

    async def get_status(self, call: Call) -> Reply:
        counts, found = await self.reader.read(_status)
        return reply(
            {
                "version": version("htmengine"),
                "now": int(self.reactor.seconds()),
                "started": int(self.started),
                "metrics": {status.name: count for status, count in counts.items()},
                "queues": await self._depths(),
                "event_clients": self.feed.clients,
                "graphite": self._graphite(),
                "first_samples": least_samples(self.operations.pending_samples),
                "pending_samples": self.operations.pending_samples,
                "troubles": [asdict(trouble) for trouble in found],
            }
        )

    async def list_processes(self, call: Call) -> Reply:
        return reply({"processes": await self.peers.ask()})

    def _graphite(self) -> dict[str, Any] | None:
        """Where lines are sent to; None: nobody knows yet."""
        host, port = self.graphite()
        return {"host": host, "port": port} if port else None

    async def _depths(self) -> dict[str, int | None]:
        """Messages that wait, by stage; None: nobody has made the queue yet."""
        return {stage: await self._depth(queues) for stage, queues in self.queues.items()}

    async def _depth(self, queues: Sequence[str]) -> int | None:
        try:
            return sum([await self.operations.bus.depth(queue) for queue in queues])
        except UnroutableMessage:
            return None

    async def stream_events(self, call: Call) -> Stream:
        given = self._query(call, "stream_events")
        last = header(call.request, "Last-Event-ID")
        if last is not None and not (last.isascii() and last.isdigit() and int(last[:19]) <= GREATEST_EVENT_ID):
            raise Refused(400, "Last-Event-ID: not an id that this service gave", [("Last-Event-ID", "is no id")])
        self.feed.check_room()
        wanted = Filter.of(
            given.get("metric", ()),
            threshold=given["threshold"],
            limit=given.get("limit"),
            timeout_s=given.get("timeout"),
        )
        number = int(last) if last is not None else given.get("last_event_id")
        return Stream(lambda request: self.feed.serve(request, wanted, number), "text/event-stream")

    # --- parts ------------------------------------------------------------------------------------------

    def _query(self, call: Call, name: str) -> dict[str, Any]:
        return self.document.operations[name].read_query(call.query)

    def _body(self, call: Call, name: str) -> Any:
        return self.document.operations[name].read_body(call.body(JSON))

    async def _read(self, view: Any, *args: Any) -> Reply:
        """A view of the database; made and encoded in the thread."""
        return Reply(await self.reader.read(encoded, view, *args))

    async def _compute(self, view: Any, *args: Any) -> Reply:
        """As `_read`, for a view that computes much."""
        return Reply(await self.reader.compute(encoded, view, *args))


def _checked(operation: Operation, handler: Handler) -> Handler:
    """A handler whose operation has no parameters refuses any."""
    if operation.query["properties"]:
        return handler

    async def checked(call: Call) -> Reply | Stream:
        operation.read_query(call.query)
        return await handler(call)

    return checked


def _spec(row: MetricRow) -> dict[str, Any]:
    """What a metric's specification says beside its model."""
    stored = parameters_json(row) or {}
    metric_spec: Mapping[str, Any] = stored.get("metricSpec", {})
    kept = {key: value for key, value in metric_spec.items() if key in ("unit", "resource", "userInfo")}
    return {"datasource": DATASOURCE, "metricSpec": {**kept, "uid": row.uid}}


# --- views ----------------------------------------------------------------------------------------------


def _status(conn: Connection) -> tuple[dict[MetricStatus, int], list[Trouble]]:
    return reading.status_counts(conn), troubles.list_of(conn)


def _rejects(conn: Connection, reason: str | None) -> dict[str, Any]:
    return {"rejects": [asdict(each) for each in rejects.list_of(conn, reason)]}


def _metrics(conn: Connection, query: MetricQuery, after: PageKey | None, limit: int) -> dict[str, Any]:
    rows = reading.page_of_metrics(conn, query, after, limit + 1)
    page = rows[:limit]
    more = len(rows) > limit
    return {
        "metrics": [metric_json(row) for row in page],
        "next": encode_key(reading.key_of(page[-1])) if more else None,
        "total": reading.count_metrics(conn, query) if more or after is not None else len(page),
    }


def _metric(conn: Connection, name: str) -> dict[str, Any]:
    row = reading.find_metric(conn, name)
    since = learnt_since(conn, [row.uid]).get(row.uid)
    newest = None if row.last_timestamp is None else from_datetime(row.last_timestamp)
    learns = None if since is None or newest is None else learning(since, newest)
    return {
        **metric_json(row),
        "parameters": parameters_json(row),
        "learning": None if learns is None else {"progress": round(learns.progress, 4), "until": int(learns.until)},
    }


def _data(conn: Connection, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    metric = reading.find_metric(conn, name)
    limit, newest = given["limit"], given["newest"]
    span = reading.span_of(conn, metric.uid, given.get("from"), given.get("until"))
    if "after" in given:
        span = Span(max(span.first, given["after"] + 1), span.last)
    rows = reading.rows_of(conn, metric.uid, span, limit, newest=newest)
    more = not newest and bool(rows) and rows[-1].rowid < span.last
    return {
        "uid": metric.uid,
        "name": metric.name,
        "next": rows[-1].rowid if more else None,
        "rows": [row._asdict() for row in rows],
    }


def _plot(conn: Connection, name: str, start: int | None, end: int | None, points: int) -> dict[str, Any]:
    metric = reading.find_metric(conn, name)
    stored = reading.span_of(conn, metric.uid, None, None)
    span = stored if start is None and end is None else reading.span_of(conn, metric.uid, start, end)
    first, last = reading.timestamps_at(conn, metric.uid, stored)
    step = _step(conn, metric.uid, span, points)
    return {
        "uid": metric.uid,
        "name": metric.name,
        "from": first if start is None else start,
        "until": last if end is None else end,
        "step": step,
        "rows": span.rows,
        "first_timestamp": first,
        "last_timestamp": last,
        "filled": filled_gaps(conn, metric.uid, span.first, span.last),
        **plot_columns(_buckets(conn, metric.uid, span, step)),
    }


def _step(conn: Connection, uid: str, span: Span, points: int) -> int | None:
    """The step of at most ``points`` buckets; None: each row is a bucket."""
    first, last = reading.timestamps_at(conn, uid, span)
    if span.rows <= points or first is None or last is None:
        return None
    return round_step(-(-(last - first) // (points - 1)))  # the first and the last bucket may be cut


def _buckets(conn: Connection, uid: str, span: Span, step: int | None) -> list[Bucket]:
    if step is None:
        return [bucket_of(row) for row in reading.rows_of(conn, uid, span, span.rows)]
    return reading.buckets_of(conn, uid, span, step)


def _evidence(conn: Connection, name: str, start: int | None, end: int | None, points: int) -> dict[str, Any]:
    metric = queries.get_metric(conn, reading.find_metric(conn, name).uid)
    span = reading.span_of(conn, metric.uid, start, end)
    step = _step(conn, metric.uid, span, points)
    found = bucketed(evidence_columns(conn, metric, span), step)
    return {"uid": metric.uid, "name": metric.name, "step": step, **evidence_json(found)}


def _why(conn: Connection, name: str, at: int) -> dict[str, Any]:
    metric = queries.get_metric(conn, reading.find_metric(conn, name).uid)
    told = why_at(conn, metric, at)
    return {"uid": metric.uid, "name": metric.name, **told._asdict(), "why": msgspec.to_builtins(told.why)}


def _sparklines(conn: Connection, uids: list[str], rows: int) -> dict[str, Any]:
    lines = {}
    for uid in dict.fromkeys(uids):
        span = reading.span_of(conn, uid, None, None)
        if span.last >= span.first:
            lines[uid] = sparkline(reading.rows_of(conn, uid, span, rows, newest=True))
    return {"sparklines": lines}


def _anomalies(
    conn: Connection, query: AnomalyQuery, metric: str | None, after: AnomalyKey | None, limit: int
) -> dict[str, Any]:
    if metric is not None:
        query = replace(query, uid=reading.find_metric(conn, metric).uid)
    rows = reading.page_of_anomalies(conn, query, after, limit + 1)
    page = rows[:limit]
    last = page[-1] if len(rows) > limit else None
    return {
        "anomalies": [anomaly_json(row) for row in page],
        "next": last and encode_key(AnomalyKey(last.timestamp, last.uid, last.rowid)),
    }
