# SPDX-License-Identifier: MIT
"""Tells systemd that a process is ready, that its reactor turns, and that it stops: sd_notify(3).

In: NOTIFY_SOCKET and WATCHDOG_USEC of the environment, which systemd sets for units with ``Type=notify`` and
``WatchdogSec=``.  Out: datagrams.  Without NOTIFY_SOCKET nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.application.service import Service
from twisted.logger import Logger

from htmengine.process.twisted_types import Clock, every


class SystemdNotifier(Service):
    """The last part of a process to be started, and the first to be stopped."""

    log = Logger()

    def __init__(self, clock: Clock, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._alive = every(clock, lambda: self._tell("WATCHDOG=1"))
        self._interval_s = watchdog_s(environ, os.getpid()) / 2

    def startService(self) -> None:
        super().startService()
        self._tell("READY=1")
        if self._interval_s:
            self._alive.start(self._interval_s)

    def stopService(self) -> None:
        super().stopService()
        self._tell("STOPPING=1")
        if self._alive.running:
            self._alive.stop()

    def _tell(self, state: str) -> None:
        """Without waiting: whoever does not read does not stop the process."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.sendto(state.encode(), socket_address(self._address))
        except OSError as error:
            self.log.warn("systemd was not told {state}: {error}", state=state, error=error)


def watchdog_s(environ: Mapping[str, str], pid: int) -> float:
    """The process is killed if it tells nothing for so many seconds; 0: it is not watched.

    >>> watchdog_s({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "7"}, 7)
    120.0
    >>> watchdog_s({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "7"}, 8), watchdog_s({}, 7)
    (0.0, 0.0)
    """
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(environ.get("WATCHDOG_USEC", "0")) / 1e6


def socket_address(name: str) -> str:
    """A path, or with ``@`` a name in Linux's abstract namespace.

    >>> socket_address("@systemd")
    '\\x00systemd'
    """
    return f"\0{name[1:]}" if name.startswith("@") else name
