# SPDX-License-Identifier: MIT
"""Faults from outside: functions of an engine's processes raise what nobody expects, for one metric.

Python imports this at the start of every process whose PYTHONPATH has this folder, workers included, so that the
engine itself holds nothing of it.  HTMENGINE_FAULTS names a JSON file: ``{"MODULE:FUNCTION": [MARKER, ERROR]}``.  Such
a function raises ERROR as long as its arguments, as text, hold MARKER.  The file is read again whenever it has changed;
each fault that came about is a line in the same file with ``.raised``.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class Surprise(Exception):
    """An error that no part of the engine knows of."""


ERRORS = {error.__name__: error for error in (ZeroDivisionError, RecursionError, KeyError, AssertionError, Surprise)}


class Faults(importlib.abc.MetaPathFinder):
    """Wraps functions when their modules are imported."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_at = 0
        self._orders: dict[str, tuple[str, str]] = {}
        self._read()
        self._modules = {place.partition(":")[0] for place in self._orders}

    def _read(self) -> None:
        changed_at = os.stat(self._path).st_mtime_ns
        if changed_at != self._changed_at:
            self._changed_at = changed_at
            self._orders = json.loads(self._path.read_text())

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._modules:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                self._wrap(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap(self, module: ModuleType) -> None:
        for place in self._orders:
            name, _, path = place.partition(":")
            if name == module.__name__:
                *owners, function = path.split(".")
                owner = functools.reduce(getattr, owners, module)
                made = self._wrapped(place, inspect.getattr_static(owner, function))
                setattr(owner, function, made)

    def _wrapped(self, place: str, function: Any) -> Any:
        if isinstance(function, classmethod | staticmethod):
            return type(function)(self._wrapped(place, function.__func__))
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waits(*args: Any, **kwargs: Any) -> Any:
                self._perhaps_raise(place, args, kwargs)
                return await function(*args, **kwargs)

            return waits

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            self._perhaps_raise(place, args, kwargs)
            return function(*args, **kwargs)

        return called

    def _perhaps_raise(self, place: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._read()
        marker, error = self._orders[place]
        if marker and marker in repr((args, kwargs)):
            with open(f"{self._path}.raised", "a") as file:
                file.write(f"{place}\n")
            raise ERRORS[error](f"a fault in {place}")


if "HTMENGINE_FAULTS" in os.environ:
    sys.meta_path.insert(0, Faults(Path(os.environ["HTMENGINE_FAULTS"])))
