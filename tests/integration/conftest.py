# SPDX-License-Identifier: MIT
"""The servers that integration tests share."""

from __future__ import annotations

from tests.support.servers import alertmanager, mariadb, postgresql, rabbitmq

__all__ = ["alertmanager", "mariadb", "postgresql", "rabbitmq"]
