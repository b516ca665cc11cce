# SPDX-License-Identifier: AGPL-3.0-only
"""Installs the companion into the Python 2.7 environment that has NuPIC."""

from setuptools import setup

setup(
    name="htmengine-nupic",
    version="1.0.0",
    description="NuPIC's models as a worker of HTM Engine",
    license="AGPL-3.0-only",
    packages=["htmengine_nupic"],
    entry_points={"console_scripts": ["htmengine-nupic-worker = htmengine_nupic.worker:main"]},
    python_requires=">=2.7",
    extras_require={"nupic": ["nupic==1.0.5"]},
)
