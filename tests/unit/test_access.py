# SPDX-License-Identifier: MIT
"""Who may do what: tokens, sessions, names of the service, other sites."""

from __future__ import annotations

import base64
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import StartError
from htmengine.web.access import (
    EVERYTHING,
    NOBODY,
    ROLES,
    SESSION_S,
    Access,
    AccessRules,
    Client,
    Scope,
    Token,
    load_tokens,
)
from htmengine.web.refused import Refused

READ, WRITE = "read-token-0123456", "write-token-012345"
READER = Client("read_token", Scope.READ)


class StartTest(SynchronousTestCase):
    def test_loopback_needs_no_tokens(self) -> None:
        for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
            AccessRules(host).check_start()

    def test_elsewhere_both_tokens_are_wanted(self) -> None:
        for host in ("0.0.0.0", "::", "192.168.1.1", "example.org"):  # noqa: S104
            for tokens in (("", ""), (READ, ""), ("", WRITE)):
                with self.assertRaises(StartError):
                    AccessRules(host, *tokens).check_start()
            AccessRules(host, READ, WRITE).check_start()

    def test_a_short_token_is_refused(self) -> None:
        with self.assertRaises(StartError) as caught:
            AccessRules("127.0.0.1", write_token="short").check_start()
        self.assertIn("write_token", str(caught.exception))
        self.assertNotIn("short", str(caught.exception))


class AccessTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def access(self, read: str = READ, write: str = WRITE, allowed: tuple[str, ...] = ()) -> Access:
        return Access(AccessRules("127.0.0.1", read, write, allowed), self.clock.seconds)

    def assert_refused(self, status: int, call: object, *args: object) -> None:
        with self.assertRaises(Refused) as caught:
            call(*args)  # type: ignore[operator]
        self.assertEqual(caught.exception.status, status)


class TokenTest(AccessTestCase):
    def test_without_tokens_everybody_may_do_everything(self) -> None:
        self.assertEqual(self.access("", "").client(None, None).scope, EVERYTHING)
        self.assertEqual(self.access("", "").client("Bearer whatever", None).scope, EVERYTHING)

    def test_each_token_allows_what_it_is_for(self) -> None:
        access = self.access()
        self.assertEqual(access.client(None, None).scope, Scope.NOTHING)
        self.assertEqual(access.client(f"Bearer {READ}", None).scope, Scope.READ)
        self.assertEqual(access.client(f"bearer  {WRITE}", None).scope, EVERYTHING)

    def test_with_a_write_token_alone_reading_is_open(self) -> None:
        access = self.access(read="")
        self.assertEqual(access.client(None, None).scope, Scope.READ)
        self.assertEqual(access.client(f"Bearer {WRITE}", None).scope, EVERYTHING)
        self.assert_refused(401, access.require, access.client(None, None), Scope.ADMIN)

    def test_with_a_read_token_alone_nobody_writes(self) -> None:
        access = self.access(write="")
        self.assertEqual(access.client(f"Bearer {READ}", None).scope, Scope.READ)
        self.assert_refused(401, access.client, "Bearer ", None)
        self.assert_refused(403, access.require, READER, Scope.ADMIN)

    def test_basic_authentication_carries_the_token_as_its_password(self) -> None:
        def basic(text: str) -> str:
            return "Basic " + base64.b64encode(text.encode()).decode()

        access = self.access()
        self.assertEqual(access.client(basic(f"anybody:{WRITE}"), None).scope, EVERYTHING)
        self.assert_refused(401, access.client, basic(f"{WRITE}:anybody"), None)
        self.assert_refused(401, access.client, basic(WRITE), None)
        self.assert_refused(401, access.client, "Basic ***", None)

    def test_wrong_credentials_are_refused(self) -> None:
        for wrong in ("Bearer x", "Bearer", "Digest abc", "", f"Bearer {READ}x", "Bearer \udce4"):
            self.assert_refused(401, self.access().client, wrong, None)


class RolesTest(AccessTestCase):
    def named(self) -> Access:
        tokens = [Token.of(role, role, f"the token of {role}") for role in ROLES]
        return Access(AccessRules("0.0.0.0", named=tokens), self.clock.seconds)  # noqa: S104

    def test_each_role_allows_what_it_is_for_and_no_more(self) -> None:
        access = self.named()
        allowed = {
            role: access.client(f"Bearer the token of {role}", None).scope
            for role in ("read", "send", "operate", "admin")
        }
        self.assertEqual(
            allowed,
            {"read": Scope.READ, "send": Scope.SEND, "operate": Scope.READ | Scope.OPERATE, "admin": EVERYTHING},
        )
        self.assertEqual(access.client(None, None), NOBODY)

    def test_who_may_not_is_told_which_role_may(self) -> None:
        access = self.named()
        operator = access.client("Bearer the token of operate", None)
        access.require(operator, Scope.OPERATE)
        with self.assertRaises(Refused) as caught:
            access.require(operator, Scope.ADMIN)
        self.assertEqual(caught.exception.status, 403)
        self.assertIn("the token operate does not allow this; a role that does is admin", str(caught.exception))
        self.assert_refused(401, access.require, NOBODY, Scope.READ)

    def test_a_session_has_the_name_and_the_role_of_its_token(self) -> None:
        access = self.named()
        operator = access.client_of_token("the token of operate")
        self.assertEqual(access.client(None, access.session(operator)), operator)
        self.assertEqual(self.named().client(None, access.session(operator)), NOBODY)  # digests sign nothing

    def test_a_file_has_names_roles_and_digests(self) -> None:
        ada = Token.of("ada", "operate", "x" * 20)
        path = Path(self.mktemp())
        path.write_text(f"# people\n\n{ada.line}\n")
        self.assertEqual(load_tokens(path), (ada,))
        AccessRules("0.0.0.0", named=load_tokens(path)).check_start()  # noqa: S104
        for wrong in (
            "ada operate",
            f"ada root {ada.line.split()[2]}",
            "ada admin sha256:00",
            f"{ada.line}\n{ada.line}",
        ):
            path.write_text(wrong)
            with self.assertRaises(StartError) as caught:
                load_tokens(path)
            self.assertIn("NAME ROLE sha256:DIGEST is allowed", str(caught.exception))
        with self.assertRaises(StartError):
            load_tokens(path.with_name("nowhere"))


class SessionTest(AccessTestCase):
    def test_a_session_holds_for_its_time(self) -> None:
        access = self.access()
        cookie = access.session(READER)
        self.assertNotIn(READ, cookie)
        self.assertEqual(access.client(None, cookie).scope, Scope.READ)
        self.clock.advance(SESSION_S)
        self.assertEqual(access.client(None, cookie).scope, Scope.NOTHING)

    def test_a_session_ends_with_its_tokens(self) -> None:
        cookie = self.access().session(Client("write_token", EVERYTHING))
        self.assertEqual(self.access(read="another-token-0123").client(None, cookie), NOBODY)

    def test_a_forged_session_is_nothing(self) -> None:
        access = self.access()
        name, scope, end, signature = access.session(READER).split(".")
        others = (
            f"{name}.15.{end}.{signature}",
            f"{name}.{scope}.{int(end) + 1}.{signature}",
            f"x.{scope}.{end}.{signature}",
        )
        for forged in (*others, "", "..", "1.2", "é.é.é"):
            self.assertEqual(access.client(None, forged).scope, Scope.NOTHING)


class OriginTest(AccessTestCase):
    def test_only_our_names_are_answered_to(self) -> None:
        access = self.access("", "")
        for host in ("localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST", None):
            access.check_host(host)
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[", "10.0.0.1:8080"):
            self.assert_refused(403, access.check_host, host)

    def test_further_names_are_allowed_by_the_options(self) -> None:
        self.access("", "", ("metrics.example",)).check_host("metrics.example:8080")

    def test_with_tokens_names_matter_only_if_there_are_some(self) -> None:
        self.access().check_host("anything.example")
        self.assert_refused(403, self.access(allowed=("a.example",)).check_host, "b.example")

    def test_changes_from_other_sites_are_refused(self) -> None:
        access = self.access()
        access.check_origin("localhost:8080", None, None)
        access.check_origin("localhost:8080", "http://localhost:8080", "same-origin")
        for origin in ("http://localhost:3000", "http://evil.example", "null", "http://localhost", "http://["):
            self.assert_refused(403, access.check_origin, "localhost:8080", origin, None)
        self.assert_refused(403, access.check_origin, "localhost:8080", None, "cross-site")

    def test_reads_that_other_sites_start_are_refused(self) -> None:
        access = self.access()
        for origin, fetch_site in (
            (None, None),
            (None, "none"),
            (None, "same-origin"),
            (None, "same-site"),
            ("http://localhost:3000", "same-site"),
            ("http://localhost:8080", None),
        ):
            access.check_reader("localhost:8080", origin, fetch_site)
        for origin, fetch_site in (
            (None, "cross-site"),
            ("http://localhost:8080", "cross-site"),
            ("http://evil.example", None),
            ("http://evil.example", "none"),
            ("null", None),
            ("http://[", None),
        ):
            self.assert_refused(403, access.check_reader, "localhost:8080", origin, fetch_site)
