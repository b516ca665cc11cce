# SPDX-License-Identifier: MIT
"""Bring the application's database up to date; all rows are kept."""

from __future__ import annotations

from htmengine.deployment import Deployment
from htmengine.repository import migrations

if __name__ == "__main__":
    migrations.upgrade(Deployment.distributed().database_url)
