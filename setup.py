# SPDX-License-Identifier: MIT
"""Builds the compiled model core; everything else that packaging needs stands in pyproject.toml."""

from __future__ import annotations

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

# -ffp-contract=off: no fused multiply-add, so every compiler and machine gives the same bytes.
CORE = Pybind11Extension(
    "htmengine.htm._core",
    sources=["htmengine/htm/core/bindings.cpp"],
    include_dirs=["htmengine/htm/core"],
    depends=[],
    cxx_std=17,
    extra_compile_args=["-O3", "-ffp-contract=off"],
)

setup(ext_modules=[CORE], cmdclass={"build_ext": build_ext})
