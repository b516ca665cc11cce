# SPDX-License-Identifier: MIT
"""Other protocols over HTTP: Prometheus remote_write, OpenTelemetry's OTLP, InfluxDB's line protocol, other packages'.

In: their requests.  Out: messages of the samples queue, and each protocol's own answers.  `htmengine.wires` reads the
bodies, in a thread; an answer of success is sent when the samples are durable.  What cannot be taken is counted by its
reason, and told as the protocol has it: a part of a request that is refused keeps nothing else of it out.

Sources: the specifications of remote_write 1.0 and 2.0 and of OTLP/HTTP, and InfluxDB's documentation of /write and
/api/v2/write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from threading import Lock
from typing import Any

from twisted.logger import Logger

from htmengine import labels
from htmengine.errors import InvalidBody
from htmengine.messages import (
    COUNTER,
    DELTA,
    GAUGE,
    UNKNOWN,
    Reject,
    SampleBatch,
    in_messages,
    shown_line,
    with_rejects,
)
from htmengine.operations import Operations
from htmengine.process.twisted_types import Reactor, in_thread
from htmengine.web.document import parse_query
from htmengine.web.http import JSON, TEXT, Call, Reply, dump, header
from htmengine.web.reader import shielded
from htmengine.web.refused import Refused
from htmengine.web.routes import Routes
from htmengine.wires import influx, otlp, remote_write
from htmengine.wires.compression import decompress
from htmengine.wires.plugins import Wire
from htmengine.wires.samples import Kind, Received, Sample, bound, joined, second

PROTOBUF = "application/x-protobuf"
#: Of another package's wire, decompressed.
MAX_BODY_BYTES = 10 * 1024 * 1024
_KINDS = {Kind.GAUGE: GAUGE, Kind.COUNTER: COUNTER, Kind.DELTA: DELTA, Kind.UNKNOWN: UNKNOWN}


class Wires:
    """The routes, and what the protocols' readers remember from one request to the next."""

    log = Logger()

    def __init__(
        self,
        operations: Operations,
        reactor: Reactor,
        others: Mapping[str, Wire] | None = None,
        otlp_options: otlp.OtlpOptions | None = None,
    ) -> None:
        self._operations = operations
        self._others = others or {}  #: those that other packages bring
        self._reactor = reactor
        self._types = remote_write.MetricTypes()
        self._otlp = otlp.OtlpReader(otlp_options)
        self._reading = Lock()  #: readers remember, and are not made for two threads

    def add_to(self, routes: Routes) -> None:
        """A route a protocol; all want the right to write."""
        routes.add(["POST"], "/api/v1/write", "send", self.remote_write)
        routes.add(["POST"], "/v1/metrics", "send", self.otlp)
        routes.add(["POST"], "/write", "send", self.influx)
        routes.add(["POST"], "/api/v2/write", "send", self.influx)
        routes.add(["GET"], "/ping", None, self.ping)
        for name, wire in self._others.items():
            routes.add(["POST"], f"/wires/{name}", "send", partial(self.other, name, wire))

    async def remote_write(self, call: Call) -> Reply:
        """204, or 400 with what is wrong, which a sender does not repeat; what can be taken is."""
        content_type = header(call.request, "Content-Type") or ""
        encoding = header(call.request, "Content-Encoding") or "snappy"

        def read(body: bytes) -> Received:
            version = remote_write.version_of(content_type)
            plain = decompress(body, encoding, remote_write.MAX_BODY_BYTES)
            if version == 1:
                return remote_write.read_version_1(plain, self._types)
            return remote_write.read_version_2(plain)

        received = await self._take(call, read)
        written = {
            "X-Prometheus-Remote-Write-Samples-Written": str(len(received.samples)),
            "X-Prometheus-Remote-Write-Histograms-Written": "0",
            "X-Prometheus-Remote-Write-Exemplars-Written": "0",
        }
        if received.rejected:
            return Reply(received.error().encode(), TEXT, 400, written)
        return Reply(status=204, content_type="", headers=written)

    async def otlp(self, call: Call) -> Reply:
        """200 with the points that were refused."""
        as_json = call.content_type == JSON
        if not as_json and call.content_type != PROTOBUF:
            raise Refused(415, f"Content-Type: {call.content_type or 'none'}; allowed are {PROTOBUF} and {JSON}")
        encoding = header(call.request, "Content-Encoding") or ""

        def read(body: bytes) -> Received:
            return self._otlp.read(decompress(body, encoding, otlp.MAX_BODY_BYTES), as_json)

        received = await self._take(call, read)
        return Reply(otlp.accepted_body(received, as_json), call.content_type)

    async def influx(self, call: Call) -> Reply:
        """204, or 400 with the lines that are refused; the others are taken."""
        given = dict(parse_query(call.query))
        encoding = header(call.request, "Content-Encoding") or ""
        now = self._reactor.seconds()

        def read(body: bytes) -> Received:
            plain = decompress(body, encoding, influx.MAX_BODY_BYTES)
            return influx.read_lines(plain, given.get("precision") or "ns", now)

        received = await self._take(call, read)
        if received.rejected:
            return Reply(dump({"code": "invalid", "error": f"partial write: {received.error()}"}), JSON, 400)
        return Reply(status=204, content_type="")

    async def other(self, name: str, wire: Wire, call: Call) -> Reply:
        """204, or 400 with what is refused; the rest is taken."""
        encoding = header(call.request, "Content-Encoding") or ""

        def read(body: bytes) -> Received:
            plain = decompress(body, encoding, MAX_BODY_BYTES)
            try:
                reader = wire()
                received = joined([*reader.feed(plain), *reader.end()])
            except InvalidBody:
                raise
            except Exception as error:  # the other package's
                self.log.failure("the wire {name} has failed", name=name)
                raise InvalidBody("wire_failed", f"{name}: {error!r}") from None
            bound(len(received.samples))
            return received

        received = await self._take(call, read)
        if received.rejected:
            return Reply(received.error().encode(), TEXT, 400)
        return Reply(status=204, content_type="")

    async def ping(self, call: Call) -> Reply:
        """What InfluxDB's clients ask before they send."""
        return Reply(status=204, content_type="")

    async def _take(self, call: Call, read: Callable[[bytes], Received]) -> Received:
        """Read a body in a thread, and put its samples into the queue."""
        content: Any = call.request.content
        content.seek(0)
        try:
            received = await in_thread(
                self._reactor, self._reactor.getThreadPool(), self._read, read, bytes(content.read())
            )
        except InvalidBody as bad:
            await shielded(self._operations.send_batches([SampleBatch([], rejected={bad.reason: 1})]))
            raise
        address: Any = call.request.getClientAddress()
        await shielded(self._operations.send_batches(batches_of(received, address.host)))
        return received

    def _read(self, read: Callable[[bytes], Received], body: bytes) -> Received:
        with self._reading:
            received = read(body)
        received.leave_out_results()
        return received


def batches_of(received: Received, sender: str = "") -> Iterator[SampleBatch]:
    """The messages of what came in; the first has the counts of what was not taken, and each reason's first reject.

    >>> received = Received()
    >>> received.add("cpu_total", 5.0, 60.0, Kind.COUNTER)
    >>> [(batch.lines, batch.kinds) for batch in batches_of(received)]
    [(['cpu_total 5.0 60'], 'c')]
    """
    rejects = [Reject(reason, shown_line(detail), sender) for reason, detail in received.details.items()]
    return with_rejects(_accepted(received, sender), dict(received.not_taken), rejects)


def _accepted(received: Received, sender: str) -> Iterator[SampleBatch]:
    samples = iter(received.samples)
    for lines in in_messages(_line(sample) for sample in received.samples):
        yield _batch(lines, [next(samples) for _ in lines], sender)


def _batch(lines: list[str], samples: list[Sample], sender: str) -> SampleBatch:
    kinds = "".join(_KINDS[sample.kind] for sample in samples)
    started = [sample.started_at for sample in samples]
    texts = {name: sample.name for sample in samples if (name := labels.identity(sample.name)) != sample.name}
    return SampleBatch(
        lines,
        senders=[(sender, len(lines))] if sender else [],
        kinds="" if set(kinds) == {GAUGE} else kinds,
        started_at=started if any(started) else [],
        texts=texts,
    )


def _line(sample: Sample) -> str:
    return f"{labels.identity(sample.name)} {sample.value!r} {second(sample.timestamp)}"
