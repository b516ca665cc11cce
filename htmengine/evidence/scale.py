# SPDX-License-Identifier: MIT
"""The scales of a row's score: S in decades, the anomaly score in [0, 1], and the display value.

In: one number.  Out: the same on another scale.  Called wherever scores are stored, shown or compared.
"""

from __future__ import annotations

import math

#: The score S of a row that is worth waking somebody: its anomaly score is 0.99999.
ALARM_SCORE = 2.6
_NINES = 5
_DISPLAY = -23.02585084720009


def anomaly_score(score: float) -> float:
    """The anomaly score, in [0, 1), of a row's score S, in decades.

    >>> round(anomaly_score(2.6), 12), round(anomaly_score(1.56), 12), anomaly_score(0.0)
    (0.99999, 0.999, 0.0)
    """
    return 1.0 - math.pow(10.0, -_NINES * score / ALARM_SCORE)


def score_of(anomaly_score: float) -> float:
    """The score S of an anomaly score; infinity for 1.  The inverse of ``anomaly_score``.

    >>> round(score_of(0.99999), 9), score_of(0.0), score_of(1.0)
    (2.6, 0.0, inf)
    """
    return -math.log10(1.0 - anomaly_score) * ALARM_SCORE / _NINES + 0.0 if anomaly_score < 1.0 else math.inf


def display_value(anomaly_score: float) -> float:
    """The anomaly score for display, on a logarithmic scale: 0.9 gives 0.1, 0.99999 gives 0.5, 1.0 gives 1.0.

    >>> round(display_value(0.999), 6)
    0.3
    """
    return math.log(1.0000000001 - anomaly_score) / _DISPLAY
