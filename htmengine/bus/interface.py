# SPDX-License-Identifier: MIT
"""What every bus does, embedded or on RabbitMQ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Delivery:
    body: bytes
    headers: Mapping[str, str]
    tag: Any


@dataclass(frozen=True, slots=True)
class QueueLimits:
    max_messages: int = 10_000
    max_bytes: int = 256 * 1024 * 1024
    overflow: str = "wait"
    expires_s: float | None = None


class Subscription(Protocol):
    async def get(self, most: int) -> list[Delivery]: ...
    async def ack(self, deliveries: Sequence[Delivery]) -> None: ...
    async def nack(self, deliveries: Sequence[Delivery]) -> None: ...
    async def close(self) -> None: ...


class Bus(Protocol):
    async def declare_queue(self, name: str, *, limits: QueueLimits = ...) -> None: ...
    async def declare_fanout(self, name: str) -> None: ...
    async def bind(self, queue: str, exchange: str) -> None: ...
    async def delete_queue(self, name: str) -> None: ...
    async def publish(
        self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None
    ) -> None: ...
    async def broadcast(
        self, exchange: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None
    ) -> None: ...
    async def subscribe(self, queue: str, *, prefetch: int) -> Subscription: ...
    async def depth(self, queue: str) -> int: ...
