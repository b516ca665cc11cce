# SPDX-License-Identifier: MIT
"""Who may do what: tokens, sessions, names of the service, other sites."""

from __future__ import annotations

import base64

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import StartError
from htmengine.web.access import SESSION_S, Access, AccessRules, Scope
from htmengine.web.refused import Refused

READ, WRITE = "read-token-0123456", "write-token-012345"


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
        self.assertEqual(self.access("", "").scope(None, None), Scope.WRITE)
        self.assertEqual(self.access("", "").scope("Bearer whatever", None), Scope.WRITE)

    def test_each_token_allows_what_it_is_for(self) -> None:
        access = self.access()
        self.assertEqual(access.scope(None, None), Scope.NOTHING)
        self.assertEqual(access.scope(f"Bearer {READ}", None), Scope.READ)
        self.assertEqual(access.scope(f"bearer  {WRITE}", None), Scope.WRITE)

    def test_with_a_write_token_alone_reading_is_open(self) -> None:
        access = self.access(read="")
        self.assertEqual(access.scope(None, None), Scope.READ)
        self.assertEqual(access.scope(f"Bearer {WRITE}", None), Scope.WRITE)
        self.assert_refused(401, access.require, Scope.READ, Scope.WRITE)

    def test_with_a_read_token_alone_nobody_writes(self) -> None:
        access = self.access(write="")
        self.assertEqual(access.scope(f"Bearer {READ}", None), Scope.READ)
        self.assert_refused(401, access.scope, "Bearer ", None)
        self.assert_refused(403, access.require, Scope.READ, Scope.WRITE)

    def test_basic_authentication_carries_the_token_as_its_password(self) -> None:
        def basic(text: str) -> str:
            return "Basic " + base64.b64encode(text.encode()).decode()

        access = self.access()
        self.assertEqual(access.scope(basic(f"anybody:{WRITE}"), None), Scope.WRITE)
        self.assert_refused(401, access.scope, basic(f"{WRITE}:anybody"), None)
        self.assert_refused(401, access.scope, basic(WRITE), None)
        self.assert_refused(401, access.scope, "Basic ***", None)

    def test_wrong_credentials_are_refused(self) -> None:
        for wrong in ("Bearer x", "Bearer", "Digest abc", "", f"Bearer {READ}x", "Bearer \udce4"):
            self.assert_refused(401, self.access().scope, wrong, None)


class SessionTest(AccessTestCase):
    def test_a_session_holds_for_its_time(self) -> None:
        access = self.access()
        cookie = access.session(Scope.READ)
        self.assertNotIn(READ, cookie)
        self.assertEqual(access.scope(None, cookie), Scope.READ)
        self.clock.advance(SESSION_S)
        self.assertEqual(access.scope(None, cookie), Scope.NOTHING)

    def test_a_session_ends_with_its_tokens(self) -> None:
        cookie = self.access().session(Scope.WRITE)
        self.assertEqual(self.access(read="another-token-0123").scope(None, cookie), Scope.NOTHING)

    def test_a_forged_session_is_nothing(self) -> None:
        access = self.access()
        scope, end, signature = access.session(Scope.READ).split(".")
        for forged in (f"2.{end}.{signature}", f"{scope}.{int(end) + 1}.{signature}", "", "..", "1.2", "é.é.é"):
            self.assertEqual(access.scope(None, forged), Scope.NOTHING)


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
