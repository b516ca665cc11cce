# SPDX-License-Identifier: AGPL-3.0-only
"""NuPIC's models as a worker of HTM Engine, in a process of its own: Python 2.7, which NuPIC needs.

Nothing of HTM Engine is imported here, and nothing of this package by HTM Engine: the two exchange frames on pipes.
"""

__version__ = "1.0.0"
