# SPDX-License-Identifier: MIT
"""Who may do what: tokens, sessions in a browser, the names this service answers to, and no writes from other sites.

In: the options and a request's headers.  Out: a `Scope`, or `Refused`.  No input or output of its own.

A page of another site must not reach a service on loopback through the user's browser: neither under a name of its
own that resolves to 127.0.0.1 (so ``Host`` is checked), nor by sending what changes something or reads from the
database (so ``Origin`` and ``Sec-Fetch-Site`` are).
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from htmengine.errors import StartError
from htmengine.web.refused import Refused

SESSION_COOKIE = "htmengine_session"
SESSION_S = 30 * 86_400
#: A shorter token is guessed too soon.
SHORTEST_TOKEN = 16

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class Scope(enum.IntEnum):
    """What a client may do; each includes those before it."""

    NOTHING = 0
    READ = 1
    WRITE = 2


SCOPES = {"read": Scope.READ, "write": Scope.WRITE, None: Scope.NOTHING}


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Tokens are ``""`` when there are none.  ``allowed_hosts``: further names in ``Host``."""

    host: str = "127.0.0.1"
    read_token: str = ""
    write_token: str = ""
    allowed_hosts: Collection[str] = ()

    def check_start(self) -> None:
        """Raises `StartError`: without tokens on loopback only, and no token that is guessed soon."""
        if not is_loopback(self.host) and not (self.read_token and self.write_token):
            raise StartError(
                f"the HTTP service does not listen on {self.host} without tokens, since others can reach it there; "
                "set [web] read_token and write_token, or listen on 127.0.0.1"
            )
        for name in ("read_token", "write_token"):
            token = getattr(self, name)
            if token and len(token) < SHORTEST_TOKEN:
                raise StartError(f"[web] {name} has {len(token)} characters; at least {SHORTEST_TOKEN} are allowed")

    @property
    def tokens(self) -> bool:
        """Whether there are any."""
        return bool(self.read_token or self.write_token)


class Access:
    """Judges requests by the rules.  ``now``: epoch seconds, for the end of sessions."""

    def __init__(self, rules: AccessRules, now: Callable[[], float]) -> None:
        self.rules = rules
        self._now = now
        self._key = hashlib.sha256(f"{rules.read_token}\n{rules.write_token}".encode()).digest()
        self._hosts = {*_LOOPBACK_NAMES, rules.host, *rules.allowed_hosts}

    # --- who it is --------------------------------------------------------------------------------------

    def scope(self, authorization: str | None, cookie: str | None) -> Scope:
        """What the client may do.  Raises `Refused` for credentials that are wrong."""
        anonymous = self._anonymous()
        if authorization is not None:
            return max(anonymous, self.scope_of_token(_token_in(authorization)))
        return max(anonymous, self._scope_of_session(cookie) if cookie is not None else Scope.NOTHING)

    def scope_of_token(self, token: str) -> Scope:
        """What a token allows.  Raises `Refused` for a wrong one; all comparisons take the same time."""
        if not self.rules.tokens:
            return Scope.WRITE
        may_write = _same(token, self.rules.write_token)
        may_read = _same(token, self.rules.read_token)
        if not (may_write or may_read):
            raise unauthorized("the token is wrong")
        return Scope.WRITE if may_write else Scope.READ

    def require(self, scope: Scope, wanted: Scope) -> None:
        """Raises `Refused`: 401 when a token would help, 403 when the client's allows less."""
        if scope >= wanted:
            return
        if scope is Scope.READ and self.rules.read_token:
            raise Refused(403, "this token allows reading only")
        raise unauthorized("a token is required")

    def _anonymous(self) -> Scope:
        if not self.rules.tokens:
            return Scope.WRITE
        return Scope.NOTHING if self.rules.read_token else Scope.READ

    # --- sessions ---------------------------------------------------------------------------------------

    def session(self, scope: Scope) -> str:
        """A cookie's value; it holds as long as the tokens stay the same."""
        text = f"{int(scope)}.{int(self._now()) + SESSION_S}"
        return f"{text}.{self._signature(text)}"

    def _scope_of_session(self, cookie: str) -> Scope:
        text, _, signature = cookie.rpartition(".")
        if not _same(signature, self._signature(text)):
            return Scope.NOTHING
        scope, _, end = text.partition(".")
        return Scope(int(scope)) if int(end) > self._now() else Scope.NOTHING

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(errors="replace"), "sha256").hexdigest()

    # --- where it comes from ----------------------------------------------------------------------------

    def check_host(self, host: str | None) -> None:
        """Raises `Refused` unless ``Host`` is one of our names.

        With tokens and without allowed_hosts any name will do: a page of another site has no token.
        """
        if host is None or (self.rules.tokens and not self.rules.allowed_hosts):
            return
        if _name_in(host) not in self._hosts:
            raise Refused(403, "Host: not a name of this service; add it to [web] allowed_hosts")

    def check_origin(self, host: str | None, origin: str | None, fetch_site: str | None) -> None:
        """Raises `Refused` for a request that changes something and was started by another site's page."""
        if fetch_site == "cross-site" or _is_foreign(host, origin):
            raise Refused(403, "Origin: pages of other sites may not change anything here")

    def check_reader(self, host: str | None, origin: str | None, fetch_site: str | None) -> None:
        """Raises `Refused` for a read that was started by another site's page: an image's address is enough for one.

        Pages of the same site (other ports and subdomains of ours) may read; programs send neither header.
        """
        same_site = fetch_site in ("same-origin", "same-site")
        if fetch_site == "cross-site" or (_is_foreign(host, origin) and not same_site):
            raise Refused(403, "Origin: pages of other sites may not read anything here")


def unauthorized(detail: str) -> Refused:
    """401, with what the client can do about it."""
    return Refused(401, detail, headers={"WWW-Authenticate": 'Bearer realm="HTM Engine"'})


def _same(given: str, wanted: str) -> bool:
    """In constant time; nothing is the same as no token."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode()) and bool(wanted)


def _is_foreign(host: str | None, origin: str | None) -> bool:
    """Whether there is an origin, and it is not the host that was asked; one that is no URL is foreign."""
    try:
        return origin is not None and urlsplit(origin).netloc != (host or "")
    except ValueError:
        return True


def _token_in(authorization: str) -> str:
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() in ("bearer", "token"):  # the latter is InfluxDB's
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise unauthorized("Authorization: not base64 of user:token") from None
    raise unauthorized("Authorization: Bearer, Token or Basic is allowed")


def _name_in(host: str) -> str:
    """The host's name without its port.

    >>> _name_in("LocalHost:8080"), _name_in("[::1]:8080")
    ('localhost', '::1')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
