# SPDX-License-Identifier: MIT
"""Backtests: the stored past scored and judged once more, beside what happened.

``stored`` reads, ``rescoring`` scores one metric, ``processes`` many, ``comparison`` sets incidents side by side,
``backtest`` is all of it, and ``report`` draws.  ``agreement`` compares two models' scores, ``migration`` HTM Engine's
alarms with this engine's.
"""
