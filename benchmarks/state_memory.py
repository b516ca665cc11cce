# SPDX-License-Identifier: MIT
"""What the Anomaly Service holds of a metric in memory: its evidence, and all beside it.

Bytes that malloc has given out for so many states of metrics with 5,000 rows, beside the same detectors alone.

    PYTHONMALLOC=malloc python -m benchmarks.state_memory --metrics 500
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import tempfile
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from benchmarks.pipeline import Template
from htmengine.evidence import Detector
from htmengine.evidence.scoring import detector_for, restored
from htmengine.htm.params import ModelParams
from htmengine.measure.series import named
from htmengine.nab.runner import LabelledSeries
from htmengine.repository import queries
from htmengine.repository.engine import Database
from htmengine.runtime import anomaly_service, detector_states
from htmengine.runtime.detector_states import DetectorStates, MetricState

ROWS = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--metrics", type=int, default=500)
    metrics: int = parser.parse_args().metrics
    series = named("load")
    saved = _mature(series)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'htmengine.db'}"
        Template(series, ROWS).give_to(url, metrics)
        database = Database(url)
        database.run_sync(_states, saved)  # what is loaded and remembered once
        began = _given_out()
        alone = [restored(saved) for _ in range(metrics)]
        evidence = (_given_out() - began) / len(alone)
        del alone
        began = _given_out()
        states = database.run_sync(_states, saved)
        beside = (_given_out() - began) / metrics - evidence
        print(f"bytes of a metric: evidence {evidence:,.0f}, beside it {beside:,.0f}")
        del states
        database.close()


def _mature(series: LabelledSeries) -> bytes:
    """The state of a detector that has seen the series."""
    detector: Detector = detector_for(ModelParams.for_range(0, 100))
    raws = np.random.default_rng(1).integers(0, 9, ROWS) / 40
    detector.update_many(np.asarray(series.timestamps[:ROWS]), np.asarray(series.values[:ROWS], float), raws)
    return detector.save()


def _states(conn: Connection, saved: bytes) -> list[MetricState]:
    """Of all metrics, with what messages say of them."""
    uids = [metric.uid for metric in queries.list_metrics(conn)]
    states = [DetectorStates._state(loaded, 0, restored(saved)) for loaded in detector_states._load(conn, uids)]
    for state in states:
        assert anomaly_service._info_of(state).text
    return states


class _Given(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()  # noqa: SIM905
    ]


def _given_out() -> int:
    """Bytes, with Python's small objects, which with PYTHONMALLOC are malloc's."""
    gc.collect()
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Given
    given = ask()
    return int(given.uordblks + given.hblkhd)


if __name__ == "__main__":
    main()
