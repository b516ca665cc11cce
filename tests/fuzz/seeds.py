# SPDX-License-Identifier: MIT
"""Writes the states that ``make fuzz`` starts from: ``python -m tests.fuzz.seeds FOLDER``.

The parameters are those of restore.cpp.
"""

from __future__ import annotations

import sys
from pathlib import Path

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


def main(folder: Path) -> None:
    """Write a state a kind of model and age."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in range(16):
        model = _core.Model(_params(kind))
        for row in range(40):
            if row in (0, 3, 39):
                (folder / f"{kind}-{row}").write_bytes(bytes([kind]) + model.save())
            model.row(300 * row, row * 7 % 40, True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
