# SPDX-License-Identifier: MIT
"""The error that every part of the web raises when a request is not answered as asked; `routes` makes the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from htmengine.errors import HtmEngineError


class Refused(HtmEngineError):
    """An HTTP request is refused: ``status`` is HTTP's, ``errors`` names fields and what is wrong with each.

    The text says what is allowed; the remedy is the client's.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
