# SPDX-License-Identifier: MIT
"""Real receivers of alerts on loopback: an HTTP server that does as it is told, and SMTP servers."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.servers import free_port


@dataclass(frozen=True)
class Request:
    """One POST as it came."""

    path: str
    headers: Message  #: names in any case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpReceiver:
    """Takes every POST; ``answers`` are used up first, one a request."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


def status(
    code: int, body: str = "", *, phrase: str | None = None, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer of that status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code, phrase)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return answer


def hang(seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
    """No answer for that long."""
    return lambda handler: time.sleep(seconds)


def endless(handler: BaseHTTPRequestHandler) -> None:
    """200, and a body without end."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65_536)


@contextlib.contextmanager
def http_receiver(port: int = 0) -> Iterator[HttpReceiver]:
    """An HTTP server; without a port on any free one."""
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(Request(self.path, self.headers, body))
            answer = receiver.answers.pop(0) if receiver.answers else status(200, "taken")
            answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mailbox:
    """What an SMTP server took."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    to: list[list[str]] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.to.append(envelope.rcpt_tos)
        return "250 taken"


@contextlib.contextmanager
def smtp_server(certificate: Path | None = None, password: str = "", *, implicit: bool = False) -> Iterator[Mailbox]:
    """An SMTP server; with a certificate it wants STARTTLS, or speaks TLS from the start, with a password a login."""
    mailbox = Mailbox(free_port())
    options: dict[str, Any] = {}
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        # It does not know that it is behind TLS from the start, and would take no login.
        implicitly = {"ssl_context": context, "auth_require_tls": False}
        options |= implicitly if implicit else {"tls_context": context, "require_starttls": True}
    if password:

        def login(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            known = isinstance(data, LoginPassword) and data.password == password.encode()
            return AuthResult(success=known, handled=False)

        options |= {"authenticator": login, "auth_required": True}
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port, **options)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def self_signed(path: Path, name: str = "localhost") -> Path:
    """A PEM file with a key and a certificate for a name, and for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def refusing_port() -> int:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def hanging_server(drip: bytes = b"") -> Iterator[int]:
    """The port of a server that takes connections and never answers, or sends a byte of ``drip`` each second."""
    ended = threading.Event()

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            for number in range(len(drip)):
                client.sendall(drip[number : number + 1])
                ended.wait(1)
            ended.wait()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def full_server() -> Iterator[int]:
    """The port of a server that accepts nobody, whose backlog is full: a connection is neither made nor refused."""
    with contextlib.ExitStack() as clients, socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        for _ in range(3):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
