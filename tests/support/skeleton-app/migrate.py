# SPDX-License-Identifier: MIT
"""Bring the application's database up to date; all rows are kept."""

from __future__ import annotations

from htmengine.repository import migrations
from htmengine.services import Deployment

if __name__ == "__main__":
    migrations.upgrade(Deployment.distributed().database_url)
