# SPDX-License-Identifier: MIT
"""Previews that go on between requests: looked at, stopped, and forgotten when there are too many."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import WorkStopped
from htmengine.web.previews import MOST, Previews
from htmengine.web.reader import Reader
from htmengine.web.refused import Refused


class HeldReader:
    """Its computations end when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[bytes]] = []

    async def compute(self, view: Any, *args: Any) -> bytes:
        self.waiting.append(Deferred())
        return await self.waiting[-1]


class PreviewsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.reader = HeldReader()
        self.previews = Previews(cast(Reader, self.reader))

    def begin(self) -> str:
        return self.previews.begin(lambda *_: b"").id

    def test_one_is_looked_at_until_its_result_is_there(self) -> None:
        found = self.previews.find(self.begin())
        self.assertIs(found.result, None)
        self.reader.waiting[0].callback(b"{}")
        self.assertEqual(found.result, b"{}")

    def test_one_that_is_stopped_is_not_known_any_more_and_its_thread_ends(self) -> None:
        number = self.begin()
        course = self.previews.find(number).course
        self.previews.stop(number)
        self.assertRaises(WorkStopped, course.reaches, 0.5)
        self.assertRaises(Refused, self.previews.find, number)
        self.assertRaises(Refused, self.previews.stop, number)
        self.reader.waiting[0].errback(WorkStopped())

    def test_what_goes_wrong_is_its_result(self) -> None:
        found = self.previews.find(self.begin())
        self.reader.waiting[0].errback(ValueError("out of order"))
        self.assertIsInstance(found.result, Failure)

    def test_of_too_many_the_oldest_is_stopped(self) -> None:
        first, second, *_ = [self.begin() for _ in range(MOST + 1)]
        self.assertRaises(Refused, self.previews.find, first)
        self.previews.find(second)
