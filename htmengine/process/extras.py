# SPDX-License-Identifier: MIT
"""Packages that an extra brings: imported where they are used, so that an engine runs without what it does not need."""

from __future__ import annotations

import importlib
from types import ModuleType
from urllib.parse import urlsplit

from htmengine.errors import MissingExtra, StartError

#: Twisted's TLS, which is there when pyOpenSSL is.
TLS = "twisted.internet.ssl"


def speaks_tls(url: str) -> bool:
    """Whether what is sent there travels encrypted."""
    return urlsplit(url).scheme == "https"


def optional(module: str, extra: str) -> ModuleType:
    """Import a module that an extra brings; raises `MissingExtra`, which names the extra.

    >>> optional("json", "wires").__name__
    'json'
    >>> optional("no_such_package", "wires")
    Traceback (most recent call last):
    htmengine.errors.MissingExtra: no_such_package is not installed; pip install 'htmengine[wires]' brings it
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or module, extra) from error


def required(option: str, module: str, extra: str) -> ModuleType:
    """The same for what an option asks for; raises `StartError`, which names the option, too."""
    try:
        return optional(module, extra)
    except MissingExtra as missing:
        raise StartError(f"{option}: {missing}") from None
