# SPDX-License-Identifier: MIT
"""Writes the states that ``make fuzz`` starts from: ``python -m tests.fuzz.seeds FOLDER``.

The parameters are those of restore.cpp.
"""

from __future__ import annotations

import sys
from pathlib import Path

from htmengine.evidence import AnomalyLikelihood, _evidence
from htmengine.htm import _core


def _params(kind: int) -> _core.ModelParams:
    params = _core.ModelParams()
    params.spatial.columns, params.spatial.active_columns = 256, 12
    temporal = params.temporal
    temporal.activation_threshold, temporal.min_threshold = 5, 4
    temporal.new_synapses, temporal.max_synapses, temporal.max_segments = 8, 12, 400
    params.plain, params.classify = bool(kind & 1), bool(kind & 2)
    if kind & 4:
        params.encoder.kind = _core.ValueKind.delta
    if kind & 8:
        temporal.increment = 0.0512
    return params


def write_models(folder: Path) -> None:
    """Write a state a kind of model and age."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in range(16):
        model = _core.Model(_params(kind))
        for row in range(40):
            if row in (0, 3, 39):
                (folder / f"{kind}-{row}").write_bytes(bytes([kind]) + model.save())
            model.row(300 * row, row * 7 % 40, True)


def write_detectors(folder: Path) -> None:
    """Write a state an age of detectors of slow and fast rows, with a small window."""
    folder.mkdir(parents=True, exist_ok=True)
    likelihood = AnomalyLikelihood(window=200, skip=20, min_averages=50)
    for step in (1200, 60):
        detector = _evidence.Detector(likelihood.core, _evidence.GAP_STEPS)
        for row in range(600):
            if row in (0, 3, 130, 599):
                (folder / f"detector-{step}-{row}").write_bytes(detector.save())
            detector.update(step * row, row * 7 % 40, row % 3 / 40)


def main(folder: Path) -> None:
    """Write the states of all that is fuzzed."""
    write_models(folder / "restore")
    write_detectors(folder / "evidence")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
