# SPDX-License-Identifier: MIT
"""Coroutines beside each other: all come to their end, and an error is the caller's."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import BusClosed
from htmengine.tasks import together


class TogetherTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.ended: list[str] = []

    async def work(self, name: str, waits_for: Deferred[None], error: Exception | None = None) -> None:
        await waits_for
        self.ended.append(name)
        if error is not None:
            raise error

    def test_they_run_side_by_side(self) -> None:
        first, second = Deferred[None](), Deferred[None]()
        both = Deferred.fromCoroutine(together([self.work("first", first), self.work("second", second)]))
        second.callback(None)
        self.assertEqual(self.ended, ["second"])
        self.assertNoResult(both)
        first.callback(None)
        self.assertIsNone(self.successResultOf(both))

    def test_an_error_is_raised_as_it_is_when_all_have_ended(self) -> None:
        first, second = Deferred[None](), Deferred[None]()
        both = Deferred.fromCoroutine(
            together([self.work("first", first, BusClosed("stopped")), self.work("second", second)])
        )
        first.callback(None)
        self.assertNoResult(both)
        second.callback(None)
        self.failureResultOf(both, BusClosed)
        self.assertEqual(self.ended, ["first", "second"])

    def test_of_two_errors_the_first_is_raised_and_the_other_is_not_left_unhandled(self) -> None:
        done = Deferred[None]()
        done.callback(None)
        both = Deferred.fromCoroutine(
            together([self.work("first", done, ValueError("one")), self.work("second", done, KeyError("two"))])
        )
        self.failureResultOf(both, ValueError)
