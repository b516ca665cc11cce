# SPDX-License-Identifier: AGPL-3.0-only
"""Finds the package, and the stand-in for NuPIC where there is none."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.path.append(os.path.join(HERE, "stand_in"))
