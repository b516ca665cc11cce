# SPDX-License-Identifier: MIT
"""A port accepts no more while file descriptors are short, tells it once, and goes on."""

from __future__ import annotations

import os
from unittest import mock

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.process import descriptors
from htmengine.process.descriptors import LOOK_S, PausingFactory


class Port:
    """Whether it accepts, and how many in a turn."""

    reading = True
    numberAccepts = 100  # noqa: N815 - Twisted's name

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


class PausingFactoryTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.port = Port()
        self.held: list[int] = []
        self.addCleanup(self.free)
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        with mock.patch.object(descriptors, "most_for_clients", return_value=lowest + 2):
            self.factory = PausingFactory(Factory.forProtocol(Protocol), self.clock, what="the port")
        self.factory.port = self.port
        self.logged: list[str] = []
        log = mock.Mock()
        log.warn = log.info = lambda line, **_: self.logged.append(line)
        self.patch(PausingFactory, "log", log)

    def client(self) -> bool:
        """Whether a client that comes now is served, while its socket is open."""
        self.held.append(os.open(os.devnull, os.O_RDONLY))
        return self.factory.buildProtocol(None) is not None

    def free(self) -> None:
        while self.held:
            os.close(self.held.pop())

    def test_the_last_clients_are_served_and_others_wait_in_the_backlog(self) -> None:
        self.assertEqual(self.port.numberAccepts, 1)
        self.assertEqual([self.client(), self.port.reading], [True, True])
        self.assertEqual([self.client(), self.port.reading], [True, False])
        self.clock.advance(LOOK_S)
        self.assertFalse(self.port.reading)
        self.free()
        self.clock.advance(LOOK_S)
        self.assertTrue(self.port.reading)
        self.assertTrue(self.client())

    def test_a_port_that_pauses_again_and_again_tells_it_once(self) -> None:
        for _ in range(5):
            self.client()
            self.client()
            self.free()
            self.clock.advance(LOOK_S)
        self.assertEqual(len(self.logged), 2, self.logged)

    def test_it_stops_while_it_has_paused(self) -> None:
        self.factory.doStart()
        self.client()
        self.client()
        self.factory.doStop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
