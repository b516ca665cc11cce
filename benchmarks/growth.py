# SPDX-License-Identifier: MIT
"""What costs more when there is more of it: CPU time a row with more alert rules.

Each figure is CPU time of this process, the least of ``--rounds`` rounds that take turns; ratios are to the first line.

    python -m benchmarks.growth rules
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial

from tqdm import tqdm

from htmengine.alerts.configuration import Rule
from htmengine.alerts.evaluation import Scored, decide, keys_of_interest
from htmengine.alerts.rule_index import RuleIndex
from htmengine.incidents.candidates import candidates
from htmengine.messages import ScoredRow

METRICS = 1000


def rules(rounds: int) -> None:
    """Rows without a hit, of 1,000 metrics; each rule is for one metric, by its name or by its label."""
    scored = [
        Scored(f"uid{n}", f"web{n}.requests;host=h{n}", (ScoredRow(1, 1000, 5.0, 0.1, 0.5),)) for n in range(METRICS)
    ]

    def evaluate(count: int) -> None:
        index = indexes[count]
        found = keys_of_interest(index, scored), decide(index, {}, scored, 0.0), candidates(index, scored, 0.0)
        assert not any(found)

    indexes = {count: RuleIndex(map(_rule, range(count))) for count in (1, 10, 100, 1000)}
    _compare({f"{count:,} rules": partial(evaluate, count) for count in indexes}, METRICS, rounds)


def _rule(number: int) -> Rule:
    selector = f"web{number}.*" if number % 2 else f'{{host="h{number}"}}'
    return Rule(f"rule{number}", metrics=(selector,), pages_per_week=number % 3)


def _compare(works: dict[str, Callable[[], object]], times: int, rounds: int) -> None:
    """Print what each takes, in turns, divided by ``times``."""
    for work in works.values():
        work()
    least = dict.fromkeys(works, float("inf"))
    for _ in tqdm(range(rounds)):
        for name, work in works.items():
            least[name] = min(least[name], _cpu_us(work) / times)
    _table(least.items())


def _cpu_us(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e6


def _table(found: Iterable[tuple[str, float]]) -> None:
    first = None
    for name, cost in found:
        first = first or cost
        print(f"{name:30} {cost:10.2f} us {cost / first:8.2f}")


MEASUREMENTS: dict[str, Callable[[int], None]] = {"rules": rules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    MEASUREMENTS[given.what](given.rounds)


if __name__ == "__main__":
    main()
