# SPDX-License-Identifier: MIT
"""Why a row has its score, as messages and tables have it.

In: a detector after a row.  Out: a `Why`, for rows that are unusual enough to be told of.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from htmengine.evidence.detector import Detector
from htmengine.evidence.kinds import reasons
from htmengine.messages import Reason, Why

#: A row whose page is at least so high is listed, and told of with its reasons, whatever its score.
LEAST_HEIGHT = 3.0


def why_of(detector: Detector) -> Why:
    """What the evidence says of a detector's last row."""
    found = reasons(detector.evidence, detector.sides, detector.step, detector.values)
    direction = next((each for kind, _, _ in found if (each := detector.side_of(kind).direction)), None)
    expected = detector.expected
    value, lower, upper = (None, None, None) if expected is None else expected
    evidence = [Reason(kind.name, round(decades, 2), text) for kind, decades, text in found]
    return Why(round(detector.height, 4), direction, value, lower, upper, evidence)


def why_great(detector: Detector, anomaly: float, floor: float) -> Why | UnsetType:
    """The same of a last row whose anomaly score, at least ``floor``, or whose height is great; of others nothing."""
    return why_of(detector) if anomaly >= floor or detector.height >= LEAST_HEIGHT else UNSET
