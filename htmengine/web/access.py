# SPDX-License-Identifier: MIT
"""Who may do what: tokens, sessions in a browser, the names this service answers to, and no writes from other sites.

In: the options and a request's headers.  Out: a `Client`, or `Refused`.  No input or output of its own.

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
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from htmengine.errors import StartError
from htmengine.web.refused import Refused

SESSION_COOKIE = "htmengine_session"
SESSION_S = 30 * 86_400
#: A shorter token is guessed too soon.
SHORTEST_TOKEN = 16

_TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class Scope(enum.IntFlag):
    """What a client may do."""

    NOTHING = 0
    READ = 1
    SEND = 2  #: samples
    OPERATE = 4  #: acknowledge, mark, silence, preview
    ADMIN = 8  #: rules, metrics and their models


EVERYTHING = Scope.READ | Scope.SEND | Scope.OPERATE | Scope.ADMIN
#: What a route wants, by the name that the OpenAPI document gives it.
SCOPES = {"read": Scope.READ, "send": Scope.SEND, "operate": Scope.OPERATE, "admin": Scope.ADMIN, None: Scope.NOTHING}
#: What a token allows, by its role.
ROLES = {"read": Scope.READ, "send": Scope.SEND, "operate": Scope.READ | Scope.OPERATE, "admin": EVERYTHING}
_TOKEN_LINE = re.compile(rf"({_TOKEN_NAME.pattern})\s+({'|'.join(ROLES)})\s+sha256:([0-9a-f]{{64}})")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Client(NamedTuple):
    """Who sends a request, as far as a token tells, and what it may do."""

    name: str  #: the token's; "" without one
    scope: Scope


NOBODY = Client("", Scope.NOTHING)


@dataclass(frozen=True, slots=True)
class Token:
    """A token that has a name and a role; itself it is not known, its SHA-256 is."""

    name: str
    role: str
    digest: str  #: hexadecimal

    @classmethod
    def of(cls, name: str, role: str, token: str) -> Token:
        return cls(name, role, _digest(token))

    @property
    def line(self) -> str:
        """How `load_tokens` knows it."""
        return f"{self.name} {self.role} sha256:{self.digest}"


def check_name(name: str) -> None:
    """Raises `StartError` for one that no token may have."""
    if _TOKEN_NAME.fullmatch(name) is None:
        raise StartError(f"token {name!r}: at most 60 letters, digits, - and _ are allowed")


def load_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file with a line ``NAME ROLE sha256:DIGEST`` for each.  Raises `StartError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"[web] tokens_file {path}: {error}") from None
    tokens: list[Token] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found = _TOKEN_LINE.fullmatch(line.strip())
            if found is None or found[1] in {each.name for each in tokens}:
                raise StartError(
                    f"[web] tokens_file {path}, line {number}: NAME ROLE sha256:DIGEST is allowed, each NAME once, "
                    f"ROLE {' or '.join(ROLES)}; htmengine token makes such a line"
                )
            tokens.append(Token(*found.groups()))
    return tuple(tokens)


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Tokens are ``""`` when there are none.

    ``allowed_hosts``: further names in ``Host``; ``named``: further tokens.
    """

    host: str = "127.0.0.1"
    read_token: str = ""
    write_token: str = ""
    allowed_hosts: Collection[str] = ()
    named: Sequence[Token] = ()

    def check_start(self) -> None:
        """Raises `StartError`: without tokens on loopback only, and no token that is guessed soon."""
        if not is_loopback(self.host) and not (self.read_token and self.write_token) and not self.named:
            raise StartError(
                f"the HTTP service does not listen on {self.host} without tokens, since others can reach it there; "
                "set [web] read_token and write_token or tokens_file, or listen on 127.0.0.1"
            )
        for name in ("read_token", "write_token"):
            token = getattr(self, name)
            if token and len(token) < SHORTEST_TOKEN:
                raise StartError(f"[web] {name} has {len(token)} characters; at least {SHORTEST_TOKEN} are allowed")

    @property
    def tokens(self) -> bool:
        """Whether there are any."""
        return bool(self.read_token or self.write_token or self.named)

    @property
    def known(self) -> list[Token]:
        """All of them; the options read_token and write_token are names."""
        plain = (("read_token", "read", self.read_token), ("write_token", "admin", self.write_token))
        return [*(Token.of(*each) for each in plain if each[2]), *self.named]


class Access:
    """Judges requests by the rules.  ``now``: epoch seconds, for the end of sessions."""

    def __init__(self, rules: AccessRules, now: Callable[[], float]) -> None:
        self.rules = rules
        self._now = now
        self._known = rules.known
        self._key = self._signing_key()
        self._hosts = {*_LOOPBACK_NAMES, rules.host, *rules.allowed_hosts}

    # --- who it is --------------------------------------------------------------------------------------

    def client(self, authorization: str | None, cookie: str | None) -> Client:
        """Who it is, and what it may do.  Raises `Refused` for credentials that are wrong."""
        anonymous = self._anonymous()
        if authorization is not None:
            found = self.client_of_token(_token_in(authorization))
        else:
            found = self._client_of_session(cookie) if cookie is not None else NOBODY
        return Client(found.name, found.scope | anonymous)

    def client_of_token(self, token: str) -> Client:
        """Whose a token is, and what it allows.  Raises `Refused` for a wrong one; all take the same time."""
        if not self.rules.tokens:
            return Client("", EVERYTHING)
        digest = _digest(token)
        found = [each for each in self._known if hmac.compare_digest(digest, each.digest)]
        if not found:
            raise unauthorized("the token is wrong")
        return Client(found[0].name, ROLES[found[0].role])

    def require(self, client: Client, wanted: Scope) -> None:
        """Raises `Refused`: 401 when a token would help, 403 when the client's allows something else."""
        if wanted in client.scope:
            return
        if client.name:
            roles = [role for role, scope in ROLES.items() if wanted in scope]
            raise Refused(403, f"the token {client.name} does not allow this; a role that does is {' or '.join(roles)}")
        raise unauthorized("a token is required")

    def _anonymous(self) -> Scope:
        if not self.rules.tokens:
            return EVERYTHING
        return Scope.NOTHING if self.rules.read_token or self.rules.named else Scope.READ

    # --- sessions ---------------------------------------------------------------------------------------

    def session(self, client: Client) -> str:
        """A cookie's value; it holds as long as the tokens stay the same."""
        text = f"{client.name}.{int(client.scope)}.{int(self._now()) + SESSION_S}"
        return f"{text}.{self._signature(text)}"

    def _client_of_session(self, cookie: str) -> Client:
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(errors="replace"), self._signature(text).encode()):
            return NOBODY
        name, scope, end = text.split(".")
        return Client(name, Scope(int(scope))) if int(end) > self._now() else NOBODY

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(errors="replace"), "sha256").hexdigest()

    def _signing_key(self) -> bytes:
        """Of the tokens, so that it changes with them; digests alone are no secret, so there is one at random then."""
        if not self.rules.write_token:
            return secrets.token_bytes(32)
        parts = (self.rules.write_token, *(f"{each.name} {each.role} {each.digest}" for each in self._known))
        return hashlib.sha256("\n".join(parts).encode()).digest()

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


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


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
