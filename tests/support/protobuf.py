# SPDX-License-Identifier: MIT
"""Protobuf's wire format, put together by hand: tests of readers do not use the tables of those readers."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def double(number: int, value: float | bytes) -> bytes:
    """A double, or its eight bytes in big-endian order."""
    return varint(number << 3 | 1) + (value[::-1] if isinstance(value, bytes) else struct.pack("<d", value))


def message(number: int, *parts: bytes) -> bytes:
    """A text, bytes, packed numbers, or a message within one."""
    body = b"".join(parts)
    return varint(number << 3 | 2) + varint(len(body)) + body
