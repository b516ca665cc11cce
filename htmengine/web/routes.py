# SPDX-License-Identifier: MIT
"""The routes: which handler a request goes to, once it may go there; and what becomes of errors.

In: handlers, each with its methods, path and scope.  Out: one resource for the site.  Routing is Klein's.  A part of a
path stays percent-encoded until its handler gets it, so that a metric's name may hold a slash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter, ValidationError

from htmengine.errors import (
    AlertRuleNotFound,
    BusError,
    HtmEngineError,
    IncidentNotFound,
    InvalidBody,
    InvalidModelSpec,
    InvalidOptions,
    InvalidRule,
    MaintenanceNotFound,
    MetricExists,
    MetricNotFound,
    MissingExtra,
    ModelNotFound,
    RowNotFound,
    SilenceNotFound,
)
from htmengine.labels import MAX_TEXT_BYTES
from htmengine.process.twisted_types import Clock, within
from htmengine.web.access import NOBODY, SCOPES, SESSION_COOKIE, Access, Client, Scope
from htmengine.web.http import Call, Handler, Reply, Stream, header, problem
from htmengine.web.outbox import PIECE, Outbox, write_in_pieces
from htmengine.web.refused import Refused

#: The longest name has 4 KB, each byte of which may be escaped.
LONGEST_URI = 3 * MAX_TEXT_BYTES + 1024
_SAFE = ("GET", "HEAD", "OPTIONS")

HEADERS = {
    "Server": "htmengine",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _NamePart(BaseConverter):
    """One part of a path, percent-encoded UTF-8."""

    part_isolating = True
    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        try:
            return unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise ValidationError from None


class Routes:
    """Handlers by path.  `resource` serves them."""

    log = Logger()

    def __init__(self, access: Access, clock: Clock, deadline_s: float) -> None:
        self._access = access
        self._clock = clock
        self._deadline_s = deadline_s
        self._klein = Klein()
        rules = self._klein.url_map
        rules.strict_slashes = rules.merge_slashes = False
        rules.converters["name"] = _NamePart
        self._klein.handle_errors(Exception)(self._failed)
        self._outbox = Outbox()
        self.answered = 0
        self.refused = 0

    def add(self, methods: Sequence[str], path: str, scope: str | None, handler: Handler) -> None:
        """Let a handler have what comes to a path: ``/api/v1/metrics/<name:metric>``.

        ``scope``: "read", "send", "operate", "admin", or None for everybody.
        """

        def handle(request: Request, **parts: str) -> Deferred[bytes]:
            return Deferred.fromCoroutine(self._handle(request, parts, SCOPES[scope], handler))

        self._klein.route(path, methods=list(methods), endpoint=f"{methods} {path}")(handle)

    def mount(self, path: str, scope: str | None, resource: Resource) -> None:
        """Let a resource of Twisted Web have what comes to a path."""

        def handle(request: Request) -> Any:
            self._let_in(request, SCOPES[scope])
            return resource

        self._klein.route(path, endpoint=path)(handle)

    @property
    def resource(self) -> Resource:
        """For a `twisted.web.server.Site`."""
        return _Root(self, self._klein.resource())

    # --- one request ------------------------------------------------------------------------------------

    async def _handle(self, request: Request, parts: dict[str, str], wanted: Scope, handler: Handler) -> bytes:
        client = self._let_in(request, wanted)
        work = Deferred.fromCoroutine(handler(Call(request, client, parts)))
        try:
            answer = await within(work, self._deadline_s, self._clock)
        except DeferTimeout:
            raise Refused(503, f"no answer within {self._deadline_s:g} s", headers={"Retry-After": "5"}) from None
        if isinstance(answer, Stream):
            _set_headers(request, answer.content_type, answer.headers)
            if request.method != b"HEAD":
                await answer.write(request)
            return b""
        if len(answer.body) <= PIECE or request.method == b"HEAD":
            return self._send(request, answer)
        with self._outbox.place(len(answer.body)):
            await write_in_pieces(request, self._send(request, answer), self._clock)
        return b""

    def _let_in(self, request: Request, wanted: Scope) -> Client:
        """Who it is.  Raises `Refused` when it may not do what is wanted."""
        host = header(request, "Host")
        self._access.check_host(host)
        origin, fetch_site = header(request, "Origin"), header(request, "Sec-Fetch-Site")
        if wanted is Scope.READ:
            self._access.check_reader(host, origin, fetch_site)
        elif request.method.decode("latin-1") not in _SAFE:
            self._access.check_origin(host, origin, fetch_site)
        if wanted is Scope.NOTHING:
            return NOBODY
        cookie = request.getCookie(SESSION_COOKIE.encode())
        client = self._access.client(header(request, "Authorization"), cookie and cookie.decode("latin-1"))
        self._access.require(client, wanted)
        return client

    def _send(self, request: Request, answer: Reply) -> bytes:
        self.answered += 1
        request.setResponseCode(answer.status)
        _set_headers(request, answer.content_type, answer.headers)
        request.setHeader(b"Content-Length", str(len(answer.body)).encode())
        return answer.body

    def _failed(self, request: Request, failure: Failure) -> bytes:
        """Called by Klein with whatever a handler, or the routing itself, raised."""
        refused = _refused(failure)
        if refused is None:
            self.log.failure("answering {path!r} failed", failure, path=request.path)
            refused = Refused(500, "the service failed; its log says why")
        self.refused += 1
        return self._send(request, problem(refused))


class _Root(Resource):
    """The way to Klein for every request, with the parts of its path as they came."""

    isLeaf = True

    def __init__(self, routes: Routes, klein: Resource) -> None:
        super().__init__()
        self._routes = routes
        self._klein = klein

    def render(self, request: Request) -> Any:
        for name, value in HEADERS.items():
            request.setHeader(name.encode(), value.encode())
        refused = _unanswerable(request)
        if refused is not None:
            request.write(self._routes._send(request, problem(refused)))
            request.finish()
            return NOT_DONE_YET
        request.postpath = request.path[1:].split(b"/")
        request.prepath = []
        return self._klein.render(request)


def _unanswerable(request: Request) -> Refused | None:
    if getattr(request, "too_long", False):
        return Refused(413, "the body is too long")
    if len(request.requestHeaders.getRawHeaders(b"Host", [])) > 1:
        return Refused(400, "Host: occurs twice")
    if len(request.uri) > LONGEST_URI:
        return Refused(414, f"the URL has more than {LONGEST_URI} characters")
    if not request.path.startswith(b"/") or not request.path.isascii():
        return Refused(400, "the path is not percent-encoded")
    return None


def _set_headers(request: Request, content_type: str, headers: Any) -> None:
    if content_type:
        request.setHeader(b"Content-Type", content_type.encode())
    for name, value in headers.items():
        request.setHeader(name.encode(), value.encode())


# --- errors ---------------------------------------------------------------------------------------------

_STATUSES: list[tuple[type[HtmEngineError], int]] = [
    (MetricNotFound, 404),
    (RowNotFound, 404),
    (ModelNotFound, 404),
    (IncidentNotFound, 404),
    (SilenceNotFound, 404),
    (AlertRuleNotFound, 404),
    (MaintenanceNotFound, 404),
    (MetricExists, 409),
    (InvalidModelSpec, 422),
    (InvalidRule, 422),
    (InvalidOptions, 422),
    (MissingExtra, 501),
    (BusError, 503),
]
#: Of bodies that are refused for these reasons; 400 for all others.
_BODY_STATUSES = {"content_type": 415, "encoding": 415, "body_too_long": 413}


def _refused(failure: Failure) -> Refused | None:
    """The answer for an error that is not ours to log; None for one that is."""
    error = failure.value
    if isinstance(error, Refused):
        return error
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return Refused(405, f"allowed are {allowed}", headers={"Allow": allowed})
    if isinstance(error, HTTPException):
        return Refused(404 if error.code is None or error.code < 400 else error.code, "nothing is here")
    if isinstance(error, InvalidBody):
        return Refused(_BODY_STATUSES.get(error.reason, 400), error.detail)
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return Refused(status, str(error))
    return None
