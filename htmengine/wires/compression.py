# SPDX-License-Identifier: MIT
"""Bodies made long again: gzip, deflate, and snappy's block format, which is written, too.

In: a body and its Content-Encoding.  Out: what it holds, within a bound; a body that would be longer is refused
before it takes the memory.
"""

from __future__ import annotations

import zlib

from htmengine.errors import InvalidBody
from htmengine.labels import shown
from htmengine.process.extras import optional

#: zlib's words for "gzip's header" and "zlib's header".
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def decompress(body: bytes, encoding: str, most: int) -> bytes:
    """What a body holds; raises `InvalidBody`, or `MissingExtra` for snappy.

    >>> import gzip
    >>> decompress(gzip.compress(b"cpu 1 60"), "gzip", 100)
    b'cpu 1 60'
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        found = body
    elif encoding == "snappy":
        found = _unsnap(body, most)
    elif encoding in _WINDOW_BITS:
        found = _inflate(body, _WINDOW_BITS[encoding], most)
    else:
        raise InvalidBody("encoding", f"Content-Encoding {shown(encoding)}; gzip, deflate and snappy are allowed")
    if len(found) > most:
        raise _too_long(most)
    return found


def snap(body: bytes) -> bytes:
    """The body in snappy's block format; raises `MissingExtra`."""
    return bytes(optional("cramjam", "wires").snappy.compress_raw(body))


def _unsnap(body: bytes, most: int) -> bytes:
    snappy = optional("cramjam", "wires").snappy
    try:
        if snappy.decompress_raw_len(body) > most:
            raise _too_long(most)
        return bytes(snappy.decompress_raw(body))
    except optional("cramjam", "wires").DecompressionError:
        raise InvalidBody("not_snappy", "the body is not in snappy's block format") from None


def _inflate(body: bytes, window_bits: int, most: int) -> bytes:
    if not body:  # influxdb-client says that it compresses nothing, too
        return body
    inflater = zlib.decompressobj(window_bits)
    try:
        found = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise InvalidBody("not_gzip", f"the body cannot be inflated: {error}") from None
    if not inflater.eof and len(found) <= most:
        raise InvalidBody("not_gzip", "the compressed body is cut short")
    return found


def _too_long(most: int) -> InvalidBody:
    return InvalidBody("body_too_long", f"the body is longer than {most} bytes, the most that is allowed")
