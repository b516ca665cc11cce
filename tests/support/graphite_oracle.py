# SPDX-License-Identifier: MIT
"""What graphite-web makes of targets: writes tests/unit/graphite_results.json, which our functions are held to.

It runs in an environment of its own, for graphite-web wants an old Django::

    python3.11 -m venv oracle && oracle/bin/pip install graphite-web==1.1.10 setuptools
    PYTHONPATH=. oracle/bin/python -m tests.support.graphite_oracle < tests/unit/graphite_targets.txt
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.support.graphite_series import START, STEPS, UNTIL, points

RESULTS = Path(__file__).parents[1] / "unit" / "graphite_results.json"


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ["DJANGO_SETTINGS_MODULE"] = "graphite.settings"
    os.environ["GRAPHITE_ROOT"] = os.environ["GRAPHITE_STORAGE_DIR"] = mkdtemp()
    os.makedirs(os.path.join(os.environ["GRAPHITE_ROOT"], "log", "webapp"))
    import django

    django.setup()
    from graphite.render import evaluator

    evaluator.fetchData = fetch
    evaluator.prefetchData = lambda *_: None
    found = {}
    for target in filter(None, map(str.strip, sys.stdin)):
        try:
            found[target] = evaluate(target)
        except Exception as error:
            print(f"{target}: {error!r}", file=sys.stderr)
    lines = (f"{json.dumps(target)}:{json.dumps(made, separators=(',', ':'))}" for target, made in found.items())
    RESULTS.write_text("{" + ",\n".join(lines) + "}\n")


def evaluate(target: str) -> Any:
    """Name, start, step and values of each series that graphite-web makes."""
    from graphite.render.evaluator import evaluateTarget

    context = {
        "startTime": datetime.fromtimestamp(START, UTC),
        "endTime": datetime.fromtimestamp(UNTIL, UTC),
        "now": datetime.fromtimestamp(UNTIL, UTC),
        "tzinfo": UTC,
        "localOnly": False,
        "template": {},
        "data": [],
    }
    return [[each.name, each.start, each.step, list(each)] for each in evaluateTarget(context, target)]


def fetch(context: Any, expression: str) -> Any:
    """In the place of graphite-web's own reading."""
    from graphite.render.datalib import TimeSeries

    start, until = (int(context[end].timestamp()) for end in ("startTime", "endTime"))
    found = []
    for name in sorted(STEPS):
        if name.count(".") == expression.count(".") and fnmatchcase(name, expression):
            first, step, values = points(name, start, until)
            found.append(TimeSeries(name, first, first + step * len(values), step, values, pathExpression=expression))
    return found


if __name__ == "__main__":
    main()
