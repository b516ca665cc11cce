# SPDX-License-Identifier: MIT
"""Errors that come up in a real engine's functions: the folder of `sitecustomize`, and the file of orders for it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path


class Orders:
    """Which functions raise which errors.  The places are known at the start, the markers may come later."""

    def __init__(self, path: Path, places: Iterable[str]) -> None:
        self._path = path
        self.give(dict.fromkeys(places, ("", "")))

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes that are to obey."""
        folders = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(folders), "HTMENGINE_FAULTS": str(self._path)}

    def give(self, orders: Mapping[str, tuple[str, str]]) -> None:
        """(marker, error) by place, for all places; an empty marker: none."""
        partial = self._path.with_suffix(".new")
        partial.write_text(json.dumps(orders))
        partial.replace(self._path)

    def raised(self) -> Counter[str]:
        """How often each place has raised its error."""
        path = Path(f"{self._path}.raised")
        return Counter(path.read_text().split() if path.exists() else [])
