# SPDX-License-Identifier: MIT
"""Builds what is compiled: the model core and the evidence.  Everything else of packaging stands in pyproject.toml."""

from __future__ import annotations

import platform
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

# Every x86-64 processor since 2009 counts bits in one instruction.
MACHINE = ["-mpopcnt"] if platform.machine() in ("x86_64", "AMD64") else []


def extension(name: str, sources: Path, *shared: Path) -> Pybind11Extension:
    """The extension of all in ``sources``; ``shared`` are headers that it has in common with others."""
    return Pybind11Extension(
        name,
        sources=[str(sources / "bindings.cpp")],
        include_dirs=[str(sources)],
        depends=sorted(map(str, [*sources.glob("*.hpp"), *shared])),
        cxx_std=17,
        # -ffp-contract=off: no fused multiply-add, so every compiler and machine gives the same bytes.
        extra_compile_args=["-O3", "-ffp-contract=off", *MACHINE],
    )


CORE = Path("htmengine/htm/core")
SHARED = (CORE / "serialize.hpp", CORE / "python_shared.hpp")

setup(
    ext_modules=[
        extension("htmengine.htm._core", CORE),
        extension("htmengine.evidence._evidence", Path("htmengine/evidence/core"), *SHARED),
    ],
    cmdclass={"build_ext": build_ext},
)
