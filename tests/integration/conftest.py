# SPDX-License-Identifier: MIT
"""The servers that integration tests share, and the order of their modules."""

from __future__ import annotations

import pytest

from tests.support.servers import alertmanager, mariadb, postgresql, rabbitmq

__all__ = ["alertmanager", "mariadb", "postgresql", "rabbitmq"]

#: Modules that take minutes: begun last, they would be waited for while other workers have nothing to do.
LONGEST = (
    "test_documents",
    "test_install",
    "test_openapi",
    "test_distributed",
    "test_alerts",
    "test_crashes",
    "test_engine",
    "test_dashboard",
    "test_status",
    "test_backups",
    "test_message_fuzz",
    "test_allocations",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
