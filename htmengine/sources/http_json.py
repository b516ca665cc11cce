# SPDX-License-Identifier: MIT
"""One answer in JSON from an HTTP server, read as a type."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from typing import TypeVar
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

import msgspec

from htmengine.errors import SourceFailed

#: A server that gives nothing for so long, in seconds, is given up.
PATIENCE_S = 60.0
#: Bytes of one answer.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
_SHOWN_BYTES = 300

Answer = TypeVar("Answer")


class Server:
    """An HTTP server by its URL, whose user and password are sent as Basic authentication; or a bearer token."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SourceFailed(f"{parts.scheme}://{parts.hostname or ''} is no address; write http://HOST:PORT")
        self.shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._headers = {"Accept": "application/json", "User-Agent": "htmengine"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"

    def get(self, path: str, query: dict[str, str], answer: type[Answer]) -> Answer:
        """Raises `SourceFailed` with the server's words."""
        url = f"{self.shown.rstrip('/')}{path}?{urlencode(query)}"
        request = urllib.request.Request(url, headers=self._headers)  # noqa: S310 - HTTP, as was checked
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:  # noqa: S310
                body = response.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            words = error.read(_SHOWN_BYTES).decode(errors="replace").strip()
            raise SourceFailed(f"{self.shown}: HTTP {error.code}: {words}") from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceFailed(f"{self.shown}: {error or type(error).__name__}") from None
        if len(body) > MAX_ANSWER_BYTES:
            raise SourceFailed(f"{self.shown}: more than {MAX_ANSWER_BYTES} bytes; ask for less at a time")
        try:
            return msgspec.json.decode(body, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceFailed(f"{self.shown}: another answer than expected: {error}") from None
