# SPDX-License-Identifier: MIT
"""Builds the compiled model core; everything else that packaging needs stands in pyproject.toml."""

from __future__ import annotations

import platform
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

SOURCES = Path("htmengine/htm/core")

# Every x86-64 processor since 2009 counts bits in one instruction.
MACHINE = ["-mpopcnt"] if platform.machine() in ("x86_64", "AMD64") else []

# -ffp-contract=off: no fused multiply-add, so every compiler and machine gives the same bytes.
CORE = Pybind11Extension(
    "htmengine.htm._core",
    sources=[str(SOURCES / "bindings.cpp")],
    include_dirs=[str(SOURCES)],
    depends=sorted(map(str, SOURCES.glob("*.hpp"))),
    cxx_std=17,
    extra_compile_args=["-O3", "-ffp-contract=off", *MACHINE],
)

setup(ext_modules=[CORE], cmdclass={"build_ext": build_ext})
