# SPDX-License-Identifier: MIT
"""Evidence: how rare is a row by its metric's own past?  ``Detector`` scores rows and says which kinds spoke.

The computation is compiled (``core/``): one header a kind.  ``kinds`` has their names and sentences, ``scale`` the
scales of a score, ``policy`` makes alarms of scores.
"""

from __future__ import annotations

from htmengine.evidence.detector import Detector, Expected
from htmengine.evidence.likelihood import AnomalyLikelihood

__all__ = ["AnomalyLikelihood", "Detector", "Expected"]
