# SPDX-License-Identifier: MIT
"""Builds what is compiled: the model core and the evidence.  Everything else of packaging stands in pyproject.toml.

With SOURCE_DATE_EPOCH, wheels and source distributions of the same clean sources have the same bytes.
"""

from __future__ import annotations

import gzip
import os
import platform
import tarfile
from pathlib import Path
from typing import Any

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup
from setuptools.command.sdist import sdist

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


class Sdist(sdist):
    """setuptools' archive has the times and the owner of the files, unless SOURCE_DATE_EPOCH is set."""

    def make_archive(self, base_name: str, format: str, *args: Any, **kwargs: Any) -> str:
        """Called for each format."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return str(super().make_archive(base_name, format, *args, **kwargs))
        return _archive(Path(f"{base_name}.tar.gz"), Path(kwargs["base_dir"]), int(epoch))


def _archive(path: Path, folder: Path, epoch: int) -> str:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
        return member

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as out,
        gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=epoch) as zipped,  # no name in the head
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(folder, filter=plain)  # in the order of names
    return str(path)


CORE = Path("htmengine/htm/core")
SHARED = (CORE / "serialize.hpp", CORE / "python_shared.hpp")

setup(
    ext_modules=[
        extension("htmengine.htm._core", CORE),
        extension("htmengine.evidence._evidence", Path("htmengine/evidence/core"), *SHARED),
    ],
    cmdclass={"build_ext": build_ext, "sdist": Sdist},
)
