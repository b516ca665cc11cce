# SPDX-License-Identifier: MIT
"""Make the application's database, or empty it."""

from __future__ import annotations

import argparse

from htmengine.deployment import Deployment
from htmengine.repository import migrations


def main() -> None:
    """Ask, then do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suppress-prompt-and-continue-with-deletion", action="store_true", dest="sure")
    if not parser.parse_args().sure and input("All metrics and rows will be removed.  Yes? ").lower() != "yes":
        raise SystemExit("nothing was done")
    migrations.reset(Deployment.distributed().database_url)


if __name__ == "__main__":
    main()
