# SPDX-License-Identifier: MIT
"""One connection to RabbitMQ, made again whenever it is lost.

In: where the broker is.  Out: channels.  Whoever asks for one waits while the broker is away; the log says so once a
minute.  Used by `amqp` and `amqp_publisher`; the protocol is pika's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pika import ConnectionParameters, PlainCredentials
from pika.adapters.twisted_connection import TwistedChannel
from pika.exceptions import AMQPError, ConnectionClosedByBroker
from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from htmengine.bus.amqp_connection import AmqpConnection
from htmengine.errors import BusClosed, ConfigError, MissingExtra
from htmengine.process.extras import TLS, optional
from htmengine.process.seldom import LOG_INTERVAL_S
from htmengine.process.twisted_types import Clock, Reactor, every, for_twisted, later, within

#: What pika raises, or fails a Deferred with, when a connection or channel is lost.
LOST = (AMQPError, ConnectionClosed)
#: An operation that found its connection lost is tried again after this long.
RETRY_S = 0.1
#: A broker that does not answer a new connection is waited for this long.
HANDSHAKE_S = 10.0
#: A broker that does not answer the end of a connection is waited for this long.
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class AmqpParams:
    """Where RabbitMQ is, and who we are.  ``tls_ca_file`` is a PEM file; empty: the system's authorities."""

    host: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    virtual_host: str = "/"
    heartbeat_s: int = 10
    tls: bool = False
    tls_ca_file: str = ""


class _Connections(Factory):
    """Makes the protocol for each attempt."""

    noisy = False

    def __init__(self, parameters: ConnectionParameters) -> None:
        self._parameters = parameters
        self.newest: AmqpConnection | None = None

    def buildProtocol(self, addr: object) -> AmqpConnection:
        self.newest = AmqpConnection(self._parameters)
        self.newest.factory = self
        return self.newest


class Link(Service):
    """A connection for one purpose; ``on_lost`` is called each time it is lost."""

    log = Logger()

    def __init__(self, params: AmqpParams, purpose: str, *, reactor: Reactor, on_lost: Callable[[], None]) -> None:
        self._params = params
        self._purpose = purpose
        self._reactor = reactor
        self._on_lost = on_lost
        self._connections = _Connections(_parameters(params, purpose))
        factory: Any = self._connections
        self._client = ClientService(
            _endpoint(params, reactor),
            factory,
            retryPolicy=self._retry,
            prepareConnection=self._prepare,
            clock=for_twisted(reactor),
        )
        self._backoff = backoffPolicy(0.2, 15.0, 1.5)
        self._attempts = 0  #: since the last connection
        self._shaking_hands: Deferred[None] | None = None  #: fires when a handshake has ended, well or not
        self._absence = _Lasting(reactor, self._tell_away)
        self._alarm = _Lasting(reactor, self._tell_blocked)
        self._sleeping: set[Deferred[None]] = set()
        self._stopped = False
        self.lost = 0  #: connections

    # --- service ---------------------------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        logging.getLogger("pika").setLevel(logging.CRITICAL)  # what matters of it is logged here
        self._client.startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopped = True
        self._absence.end()
        self._alarm.end()
        for sleeping in list(self._sleeping):
            sleeping.cancel()
        connection = self._connections.newest
        if self._shaking_hands is not None and connection is not None:
            connection.transport.abortConnection()
            await self._shaking_hands
            await later(self._reactor, 0)  # now ClientService knows of the loss
        elif connection is not None and connection.is_open:
            closed: Deferred[Any] = within(connection.close(), CLOSE_S, self._reactor)
            closed.addErrback(lambda _: None)  # ending without the broker's answer
            await closed
        await self._client.stopService()

    # --- for the bus -----------------------------------------------------------------------------------

    async def channel(self) -> TwistedChannel:
        """A new channel, as soon as there is a connection.  Raises `BusClosed` when the link stops first."""
        while True:
            if self._stopped:
                raise BusClosed("the bus is stopped")
            try:
                connection = await self._client.whenConnected()
                return await connection.channel()
            except CancelledError:
                raise BusClosed("the bus is stopped") from None
            except LOST:
                await self.sleep(RETRY_S)

    async def sleep(self, seconds: float) -> None:
        """Raises `BusClosed` when the link stops first."""
        if self._stopped:
            raise BusClosed("the bus is stopped")
        sleeping = later(self._reactor, seconds)
        self._sleeping.add(sleeping)
        try:
            await sleeping
        except CancelledError:
            raise BusClosed("the bus is stopped") from None
        finally:
            self._sleeping.discard(sleeping)

    # --- connections -----------------------------------------------------------------------------------

    def _prepare(self, connection: AmqpConnection) -> Deferred[None]:
        self._shaking_hands = Deferred()
        # The proxy that ClientService puts around a protocol gives its attributes; `ready` is taken before it fires.
        return Deferred.fromCoroutine(self._shake_hands(connection, connection.ready))

    async def _shake_hands(self, connection: AmqpConnection, ready: Deferred[Any]) -> None:
        """ClientService does not expect that a connection is lost now: it hears of the loss when this has ended."""
        try:
            await within(ready, HANDSHAKE_S, self._reactor)
        except LOST:
            return
        except TimeoutError:
            connection.abort(TimeoutError(f"no handshake within {HANDSHAKE_S:.0f} s"))
            return
        finally:
            shaking, self._shaking_hands = self._shaking_hands, None
            assert shaking is not None
            shaking.callback(None)
        connection.closed.addBoth(lambda _: self._lost())
        connection.on_blocked(self._blocked)
        self.log.info(
            "connected to RabbitMQ at {host}:{port} ({purpose})",
            host=self._params.host,
            port=self._params.port,
            purpose=self._purpose,
        )
        self._attempts = 0
        self._absence.end()

    def _lost(self) -> None:
        self._alarm.end()
        if not self._stopped:
            self.lost += 1
            self._absence.begin()
        self._on_lost()

    def _retry(self, _attempt: int) -> float:
        """Seconds until the next attempt.  ClientService's own count forgets those that came as far as a handshake."""
        if not self._stopped:
            self._absence.begin()
        self._attempts += 1
        return self._backoff(self._attempts)

    def _tell_away(self, seconds: float) -> None:
        self.log.error(
            "RabbitMQ at {host}:{port} is away for {seconds:.0f} s ({purpose}): {reason}",
            host=self._params.host,
            port=self._params.port,
            seconds=seconds,
            purpose=self._purpose,
            reason=self._reason(),
        )

    def why_away(self) -> str:
        """The broker's address, the reason as far as it is known, and what to do."""
        broker, reason = f"RabbitMQ at {self._params.host}:{self._params.port}", self._reason()
        newest = self._connections.newest
        if newest is not None and isinstance(newest.reason, ConnectionClosedByBroker):
            return f"{broker} refuses the connection: {reason}; look at [credentials] and virtual_host in rabbitmq.conf"
        return f"{broker} does not answer: {reason}; is it running? look at rabbitmq.conf"

    def _reason(self) -> str:
        reason = self._connections.newest and self._connections.newest.reason
        return f"{type(reason).__name__}: {reason}" if reason else "no connection"

    def _blocked(self, blocked: bool) -> None:
        if blocked:
            self._alarm.begin()
        else:
            self._alarm.end()
            self.log.info("RabbitMQ accepts messages again ({purpose})", purpose=self._purpose)

    def _tell_blocked(self, seconds: float) -> None:
        self.log.error(
            "RabbitMQ is short of memory or disk and has accepted nothing for {seconds:.0f} s ({purpose})",
            seconds=seconds,
            purpose=self._purpose,
        )


class _Lasting:
    """Something that lasts: ``tell`` gets the seconds since it began, at once and then once a minute."""

    def __init__(self, clock: Clock, tell: Callable[[float], None]) -> None:
        self._clock = clock
        self._since = 0.0
        self._timer = every(clock, lambda: tell(clock.seconds() - self._since))

    def begin(self) -> None:
        if not self._timer.running:
            self._since = self._clock.seconds()
            self._timer.start(LOG_INTERVAL_S)

    def end(self) -> None:
        if self._timer.running:
            self._timer.stop()


def _parameters(params: AmqpParams, purpose: str) -> ConnectionParameters:
    return ConnectionParameters(
        virtual_host=params.virtual_host,
        credentials=PlainCredentials(params.user, params.password),
        heartbeat=params.heartbeat_s,
        client_properties={"connection_name": f"htmengine {purpose}"},
    )


def _endpoint(params: AmqpParams, reactor: Reactor) -> Any:
    endpoint: Any = HostnameEndpoint(for_twisted(reactor), params.host, params.port)
    if not params.tls:
        return endpoint
    try:
        ssl = optional(TLS, "tls")
    except MissingExtra as missing:
        raise ConfigError([f"rabbitmq.conf [connection] tls: {missing}"]) from None
    trust = {"trustRoot": _authorities(ssl, params.tls_ca_file)} if params.tls_ca_file else {}
    return wrapClientTLS(ssl.optionsForClientTLS(params.host, **trust), endpoint)


def _authorities(ssl: Any, path: str) -> Any:
    """Raises `ConfigError`."""
    try:
        return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(Path(path).read_bytes())])
    except Exception as error:  # OpenSSL has no one error for a file that is not PEM
        raise ConfigError([f"rabbitmq.conf [connection] tls_ca_file = {path!r}: {error}"]) from None
