# SPDX-License-Identifier: MIT
"""Lines a CPU second through a Graphite port: the Metric Listener beside carbon's own receiver, in turn.

Both run as a process of their own, get the same bytes over one loopback TCP connection, and drop what they parsed:
the listener into a bus that confirms at once, carbon's ``MetricLineReceiver`` into a counter, or into the cache that
carbon-cache writes its files from.  What is measured is the CPU time of the process until the last line is parsed.

    pip install carbon
    python -m benchmarks.listener --lines 500000 --rounds 3
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.page import table, write


def serve_listener(pipe: Connection) -> None:
    """The Metric Listener on a free port; tells the port, then when the client has gone the number of lines."""
    from twisted.internet import reactor as installed

    from htmengine.bus.interface import QueueLimits
    from htmengine.process.progress import Progress
    from htmengine.runtime.metric_listener import ListenerOptions, MetricListener
    from htmengine.runtime.sample_batcher import BatcherOptions

    class NoBus:
        progress = Progress(time.time)

        async def declare_queue(self, name: str, *, limits: QueueLimits) -> None:
            pass

        async def publish(self, queue: str, bodies: Sequence[bytes], headers: Mapping[str, str] | None = None) -> None:
            pass

    reactor: Any = installed
    bus: Any = NoBus()
    options = ListenerOptions(BatcherOptions("samples"), port=0, udp=False)
    listener = MetricListener(reactor=reactor, bus=bus, options=options, on_failure=print)
    listener.privilegedStartService()
    watch(reactor, pipe, listener.port, lambda: listener.batcher.received)


def serve_cache(pipe: Connection) -> None:
    """The same, and the lines into carbon's cache."""
    from carbon.cache import MetricCache

    serve_carbon(pipe, MetricCache().store)


def serve_carbon(pipe: Connection, store: Callable[[str, tuple[float, float]], object] | None = None) -> None:
    """carbon's line receiver on a free port."""
    from carbon.protocols import MetricLineReceiver
    from twisted.internet import reactor as installed
    from twisted.internet.protocol import Factory

    reactor: Any = installed
    count = 0

    class Receiver(MetricLineReceiver):  # type: ignore[misc]
        def connectionMade(self) -> None:
            self.peerName = "benchmark"

        def connectionLost(self, reason: object) -> None:
            pass

        def metricReceived(self, metric: str, datapoint: tuple[float, float]) -> None:  # noqa: N802 (carbon's name)
            nonlocal count
            count += 1
            if store is not None:
                store(metric, datapoint)

    factory = Factory.forProtocol(Receiver)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    watch(reactor, pipe, port.getHost().port, lambda: count)


def watch(reactor: Any, pipe: Connection, port: int, count: Callable[[], int]) -> None:
    """Tell the port; then answer each question with the lines and CPU seconds so far, until the other end says stop."""
    from twisted.internet.task import LoopingCall

    def answer() -> None:
        while pipe.poll():
            if pipe.recv() == "stop":
                reactor.stop()
                return
            pipe.send((count(), time.process_time()))

    pipe.send(port)
    LoopingCall(answer).start(0.005)
    reactor.run()


def measure(server: Callable[[Connection], None], lines: bytes, number: int) -> float:
    """Lines a CPU second."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=server, args=(theirs,), daemon=True)
    process.start()
    try:
        with socket.create_connection(("127.0.0.1", pipe.recv())) as connection:
            pipe.send("count")
            _, began = pipe.recv()
            connection.sendall(lines)
            parsed = 0
            while parsed < number:
                pipe.send("count")
                parsed, used = pipe.recv()
        pipe.send("stop")
    finally:
        process.join(10)
        process.kill()
    return number / float(used - began)


def main() -> None:
    """Print the rates and the listener's ratio to each, medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, help="has a place for a table")
    options = parser.parse_args()
    lines = b"".join(
        b"datacenter1.web%03d.cpu.load %d.25 %d\n" % (n % 500, n % 97, 1_400_000_000 + n) for n in range(options.lines)
    )
    servers = {"htmengine": serve_listener, "carbon": serve_carbon, "and its cache": serve_cache}
    rates: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, server in servers.items():
            rates[name].append(measure(server, lines, options.lines))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    for name, rate in medians.items():
        print(f"{name:<14}{rate:>10,.0f} lines a CPU second{medians['htmengine'] / rate:>8.2f}")
    if options.page is not None:
        cells = [[name, f"{rate:,.0f}", f"{medians['htmengine'] / rate:.2f}"] for name, rate in medians.items()]
        write(options.page, "listener", table(["", "lines a second of CPU", "ours to it"], cells))


if __name__ == "__main__":
    main()
