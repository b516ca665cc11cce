# SPDX-License-Identifier: MIT
"""A hundred thousand mutated messages through readers and services; `make fuzz-messages` tries ten million."""

from __future__ import annotations

from tests.fuzz import messages


def test_no_mutated_message_is_read_wrongly_or_ends_a_service() -> None:
    counts = messages.run(100_000, seed=2)
    assert counts["refused"] + counts["valid"] == 100_000
    assert counts["handled"] > 1000
