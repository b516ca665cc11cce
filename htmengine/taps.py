# SPDX-License-Identifier: MIT
"""The taps: what ``twistd`` and ``python -m`` start, with their options.

In: the command line, or the configuration that the environment names.  Out: what `htmengine.services` makes of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from twisted.application.service import Service
from twisted.python import usage

from htmengine.config import APPLICATION_CONFIG_PATH
from htmengine.deployment import engine_deployment
from htmengine.errors import ConfigError, HtmEngineError
from htmengine.process.lifecycle import run_in_foreground
from htmengine.process.twisted_types import installed_reactor
from htmengine.services import Parts, Place, TellsOfItself, make_distributed, make_engine


class EngineOptions(usage.Options):
    """``twistd htmengine``."""

    optParameters: ClassVar = [
        ["data-dir", None, None, "The engine's data folder; by default the user's.", Path],
        ["graphite-port", None, None, "Graphite port, TCP and UDP; 0: any free one.", int],
        ["http-port", None, None, "HTTP port; 0: any free one.", int],
        ["workers", None, None, "Worker processes; 0: one for each CPU.", int],
        ["config", None, None, "The folder with application.conf and the other files.", Path],
    ]
    optFlags: ClassVar = [["no-auto-monitor", None, "Give new metrics no model."]]


def _make_embedded(options: Mapping[str, Any]) -> Service:
    deployment = engine_deployment(
        data_dir=options["data-dir"],
        config_dir=options["config"],
        graphite_port=options["graphite-port"],
        http_port=options["http-port"],
        workers=options["workers"],
        auto_monitor=False if options["no-auto-monitor"] else None,
    )
    return make_engine(deployment, installed_reactor())[0]


@dataclass(frozen=True, slots=True)
class Tap:
    """What twistd's plugin loader looks for: a class of options, and makeService."""

    Options: type[usage.Options]
    make: Callable[[Mapping[str, Any]], Service]

    def makeService(self, options: Mapping[str, Any]) -> Service:
        """Called by twistd.  What cannot start ends it with one clear line and status 1."""
        try:
            return self.make(options)
        except ConfigError as error:
            raise SystemExit("\n".join(f"htmengine: {problem}" for problem in error.problems)) from None
        except HtmEngineError as error:
            raise SystemExit(f"htmengine: {error}") from None

    def run(self) -> NoReturn:
        """The process of ``python -m`` and a service's module: as with ``twistd -n``, its log on standard error."""
        options = self.Options()
        try:
            options.parseOptions()
        except usage.UsageError as error:
            raise SystemExit(f"htmengine: {error}") from None
        run_in_foreground(self.makeService(options), installed_reactor())
        sys.exit(0)  # a service that failed has ended the process with 1 already


class ServiceOptions(usage.Options):
    """``twistd htmengine-listener`` and the others: everything is in the configuration."""

    longdesc = f"The environment variable {APPLICATION_CONFIG_PATH} names the folder with the configuration."


def _web(parts: Parts) -> tuple[TellsOfItself, Place]:
    service = parts.web_service()
    return service, service.routes


EMBEDDED = Tap(EngineOptions, _make_embedded)
LISTENER = Tap(
    ServiceOptions,
    make_distributed(
        lambda parts: (parts.metric_listener(), parts.ports.listener_port),
        queues=[],
        beside=Parts.beside_listener,
        with_database=False,
    ),
)
STORER = Tap(
    ServiceOptions,
    make_distributed(
        lambda parts: (parts.metric_storer(), parts.ports.storer_port),
        queues=["samples"],
        beside=Parts.beside_storer,
    ),
)
SCHEDULER = Tap(
    ServiceOptions,
    make_distributed(
        lambda parts: (parts.model_scheduler(), parts.ports.scheduler_port),
        queues=["model_input"],
        beside=Parts.data_watch,
    ),
)
ANOMALY = Tap(
    ServiceOptions,
    make_distributed(
        lambda parts: (parts.anomaly_service(), parts.ports.anomaly_port),
        queues=["results"],
        told_beside=Parts.remote_writer,
    ),
)
ALERTS = Tap(
    ServiceOptions,
    make_distributed(
        lambda parts: (parts.alert_service(), parts.ports.alerts_port),
        queues=["alerts"],
        beside=Parts.beside_alert_service,
    ),
)
WEB = Tap(
    ServiceOptions,
    make_distributed(_web, queues=["samples", "model_input", "results", "alerts"], beside=Parts.beside_web),
)
