# SPDX-License-Identifier: MIT
"""A database's URL with a mistake: the message names the option, and shows nothing of the password."""

from __future__ import annotations

from unittest import TestCase

from htmengine.errors import ConfigError
from htmengine.repository.connections import make_engine

MISTAKES = {
    "secret": "is not a SQLAlchemy URL",
    "mysql:/u:secret@h/db": "is not a SQLAlchemy URL",
    "mysql://u:secret@h:port/db": "is not a SQLAlchemy URL",
    "mysql://u:p@secret@h/db": "write %40 for an @",
    "mysql://u:secret@h": "names no database",
    "mysql://u:secret@h/": "names no database",
    "oracle://u:secret@h/db": "oracle is not supported",
}


class UrlTest(TestCase):
    def test_each_mistake_is_named_with_its_option_and_without_the_password(self) -> None:
        for url, why in MISTAKES.items():
            with self.subTest(url), self.assertRaisesRegex(ConfigError, f"^--from.*{why}") as refused:
                make_engine(url, option="--from")
            self.assertNotIn("secret", str(refused.exception))
