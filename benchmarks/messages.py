# SPDX-License-Identifier: MIT
"""What a message costs a row: written and read by `htmengine.messages`, and as untyped JSON by Python's own module.

    python -m benchmarks.messages [--models 100] [--rows 10] [--rounds 200]

The untyped reader checks nothing and makes no rows of what it reads.  Prints microseconds of CPU a row; the median of
the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import zlib
from collections.abc import Callable
from typing import Any

from htmengine.messages import (
    InputRow,
    MetricInfo,
    ModelInput,
    ModelResult,
    ResultRow,
    SampleBatch,
    ScoredRow,
    decode_inference,
    decode_model_message,
    decode_result_message,
    decode_samples,
    encode_inference,
    encode_model_inputs,
    encode_results,
    encode_samples,
)


def microseconds(work: Callable[[], object], rows: int, rounds: int) -> float:
    """The median of the rounds, a row."""
    spent = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return 1e6 * statistics.median(spent) / rows


def plain_json(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    ids = [f"{n:032x}" for n in range(options.models)]
    at = [(n, 1_400_000_000 + 300 * n, n * 7 % 23 / 7) for n in range(1, options.rows + 1)]
    inputs = [ModelInput(each, 1, 0, tuple(InputRow(*row) for row in at)) for each in ids]
    results = [ModelResult(each, 1, tuple(ResultRow(*row, 0.025) for row in at)) for each in ids]
    scored = [ScoredRow(n, 1_400_000_000 + 300 * n, n / 7, 0.025, n % 97 / 97) for n in range(1, 101)]
    metric = MetricInfo(
        ids[0], "web1.cpu.load", None, None, None, "custom", {"metricSpec": {"metric": "web1.cpu.load"}}
    )
    batch = SampleBatch([f"servers.web{n}.cpu.load {n / 7!r} {1_400_000_000 + n}" for n in range(1000)], "batch-1")
    total = options.models * options.rows
    cases: list[tuple[str, int, Callable[[], bytes], Callable[[bytes], object], Callable[[bytes], bytes]]] = [
        ("samples queue", 1000, lambda: encode_samples(batch), decode_samples, bytes),
        ("model input queue", total, lambda: encode_model_inputs(inputs), decode_model_message, bytes),
        ("results queue", total, lambda: encode_results(results), decode_result_message, bytes),
        ("results exchange", 100, lambda: encode_inference(metric, scored), decode_inference, zlib.decompress),
    ]
    print(f"{'microseconds a row':<22}{'write':>8}{'read':>8}{'untyped write':>16}{'untyped read':>16}")
    for name, rows, encode, decode, inflated in cases:
        body = encode()
        message = json.loads(inflated(body))
        packed: Callable[[bytes], bytes] = bytes if inflated is bytes else lambda text: zlib.compress(text, 1)
        works = (
            encode,
            lambda decode=decode, body=body: decode(body),
            lambda message=message, packed=packed: packed(plain_json(message)),
            lambda body=body, inflated=inflated: json.loads(inflated(body)),
        )
        figures = [microseconds(work, rows, options.rounds) for work in works]
        print(f"{name:<22}{figures[0]:8.2f}{figures[1]:8.2f}{figures[2]:16.2f}{figures[3]:16.2f}")


if __name__ == "__main__":
    main()
