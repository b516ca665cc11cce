# SPDX-License-Identifier: MIT
"""``htmengine token``: a new token for the HTTP API."""

from __future__ import annotations

import secrets

import click

from htmengine.cli.common import example, failing_cleanly
from htmengine.web.access import ROLES, Token, check_name


@click.command(epilog=example("htmengine token ada operate"))
@click.argument("name")
@click.argument("role", type=click.Choice(list(ROLES)))
@failing_cleanly
def token(name: str, role: str) -> None:
    """Make a token for NAME, and the line by which `[web] tokens_file` knows it.

    ROLE is read; send (samples alone); operate: read, acknowledge, mark, silence, preview; or admin: everything.
    The token itself is shown once and stored nowhere.
    """
    check_name(name)
    new = secrets.token_urlsafe(32)
    click.echo(f"token: {new}")
    click.echo(f"line for [web] tokens_file: {Token.of(name, role, new).line}")
