# SPDX-License-Identifier: MIT
"""What only the bus on RabbitMQ has: TLS, passwords, connections that end, other programs' queues."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from htmengine.bus import amqp
from htmengine.bus.amqp import AmqpBus, AmqpParams
from htmengine.errors import BusClosed, ConfigError
from tests.support.servers import RabbitMQ, free_port


def write_certificate(path: Path) -> None:
    """A certificate for 127.0.0.1, signed by its own key; key and certificate in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "htmengine test")])
    now = datetime.datetime.now(datetime.UTC)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """(port, CA file) of a RabbitMQ that speaks TLS there."""
    certificate = tmp_path_factory.mktemp("tls") / "server.pem"
    write_certificate(certificate)
    port = free_port()
    options = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {certificate}",
        f"ssl_options.certfile = {certificate}",
        f"ssl_options.keyfile = {certificate.with_suffix('.key')}",
        "ssl_options.verify = verify_none",
    ]
    with RabbitMQ(options=options):
        yield port, certificate


class AmqpTestCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: Any) -> None:
        if "reason" in event and "purpose" in event:
            self.logged.append(str(event["reason"]))

    def started(self, **params: Any) -> AmqpBus:
        bus = AmqpBus(AmqpParams(**params), reactor=reactor)
        bus.startService()
        self.addCleanup(lambda: bus.stopService() if bus.running else None)
        return bus

    async def wait_for_log(self, part: str) -> None:
        while not any(part in reason for reason in self.logged):
            await deferLater(reactor, 0.05)


class AmqpTlsTests(AmqpTestCase):
    @pytest.fixture(autouse=True)
    def _server(self, tls: tuple[int, Path]) -> None:
        self.port, self.authority = tls

    async def test_messages_go_through_tls(self) -> None:
        bus = self.started(port=self.port, tls=True, tls_ca_file=str(self.authority))
        await bus.declare_queue("tls")
        await bus.publish("tls", [b"one"])
        [got] = await (await bus.subscribe("tls", prefetch=1)).get(1)
        self.assertEqual(got.body, b"one")

    async def test_a_certificate_of_an_unknown_authority_is_refused_and_told_of(self) -> None:
        bus = self.started(port=self.port, tls=True)
        waiting = Deferred.fromCoroutine(bus.declare_queue("tls"))
        await self.wait_for_log("certificate verify failed")
        self.assertFalse(waiting.called)
        await bus.stopService()
        with self.assertRaises(BusClosed):
            await waiting

    def test_a_file_without_authorities_is_refused_by_name(self) -> None:
        path = Path(self.mktemp())
        path.write_text("nonsense")
        with self.assertRaises(ConfigError) as caught:
            AmqpBus(AmqpParams(tls=True, tls_ca_file=str(path)), reactor=reactor)
        self.assertIn(f"tls_ca_file = '{path}'", str(caught.exception))


class AmqpConnectionTests(AmqpTestCase):
    @pytest.fixture(autouse=True)
    def _server(self, rabbitmq: RabbitMQ) -> None:
        self.rabbitmq = rabbitmq
        self.port = rabbitmq.port

    def channel(self) -> Any:
        """Another program's."""
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port))
        self.addCleanup(connection.close)
        return connection.channel()

    async def test_a_wrong_password_is_told_of_without_showing_it(self) -> None:
        bus = self.started(port=self.port, password="not this one")
        waiting = Deferred.fromCoroutine(bus.declare_queue("x"))
        await self.wait_for_log("ACCESS_REFUSED")
        self.assertFalse(waiting.called)
        self.assertNotIn("not this one", "".join(self.logged) + repr(bus._publishing._params))
        await bus.stopService()
        with self.assertRaises(BusClosed):
            await waiting

    async def test_other_programs_declare_our_queues_and_exchanges_as_they_always_did(self) -> None:
        bus = self.started(port=self.port)
        await bus.declare_queue("ours first")
        await bus.declare_fanout("results first")
        channel = self.channel()
        channel.queue_declare("ours first", durable=True)
        channel.exchange_declare("results first", "fanout", durable=True)
        channel.queue_declare("theirs first", durable=True, arguments={"x-max-length": 5})
        await bus.declare_queue("theirs first")
        await bus.publish("theirs first", [b"one"])
        self.assertEqual(await bus.depth("theirs first"), 1)

    async def test_an_exchange_that_is_gone_is_made_again_with_its_bindings(self) -> None:
        bus = self.started(port=self.port)
        await bus.declare_queue("reader")
        await bus.declare_fanout("gone results")
        await bus.bind("reader", "gone results")
        channel = self.channel()
        for number in (b"1", b"2"):  # before the first broadcast, and after it
            channel.exchange_delete("gone results")
            await bus.broadcast("gone results", [number])
        self.assertEqual(await bus.depth("reader"), 2)

    async def test_what_another_process_bound_to_an_exchange_that_was_gone_is_bound_again(self) -> None:
        self.patch(amqp, "BINDINGS_S", 0.2)
        writer, reader = self.started(port=self.port), self.started(port=self.port)
        await reader.declare_queue("other reader")
        await reader.declare_fanout("other results")
        await reader.bind("other reader", "other results")
        await writer.declare_fanout("other results")
        self.channel().exchange_delete("other results")
        while not await reader.depth("other reader"):
            await writer.broadcast("other results", [b"1"])
            await deferLater(reactor, 0.05)

    async def test_what_was_in_flight_comes_again_after_a_lost_connection(self) -> None:
        bus = self.started(port=self.port)
        await bus.declare_queue("lost")
        await bus.publish("lost", [b"1", b"2"])
        subscription = await bus.subscribe("lost", prefetch=10)
        claimed = await bus.claim((await self.declared(bus, "claimed")), prefetch=1)
        old = await subscription.get(1)
        self.rabbitmq.control("close_all_connections", "test")
        with self.assertRaises(BusClosed):
            await claimed.get(1)
        again = await subscription.get(1)
        await subscription.ack(old)  # of the connection before: ignored
        self.assertEqual((old[0].body, again[0].body), (b"1", b"1"))
        await bus.publish("lost", [b"3"])
        self.assertEqual(await bus.depth("lost"), 3)

    async def declared(self, bus: AmqpBus, name: str) -> str:
        await bus.declare_queue(name)
        return name
