# SPDX-License-Identifier: MIT
"""Bodies of webhooks by templates of Jinja2, in its sandbox: for receivers with a form of their own.

In: a template's file and what a webhook's JSON would hold.  Out: the body.  The template can only read what it is
given; a name that there is not is an error, and a body is bounded.  ``tojson`` writes a value as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from htmengine.errors import DeliveryFailed
from htmengine.process.extras import optional

MAX_BODY_CHARACTERS = 1_000_000


def rendered(file: str, values: Mapping[str, Any]) -> bytes:
    """The body.  Raises `DeliveryFailed` with what is wrong with the template, or `MissingExtra`."""
    jinja2 = optional("jinja2", "templates")
    try:
        body: str = _template_of(file).render(values)
    except (jinja2.TemplateError, OSError, ArithmeticError, TypeError, ValueError) as error:
        raise DeliveryFailed(f"the template {file}: {error}") from None
    if len(body) > MAX_BODY_CHARACTERS:
        raise DeliveryFailed(f"the template {file}: a body of more than {MAX_BODY_CHARACTERS} characters")
    return body.encode()


def problem_of(file: str) -> str:
    """What is wrong with the file before any message is known; empty when there is nothing.  Raises `MissingExtra`."""
    jinja2 = optional("jinja2", "templates")
    try:
        _template_of(file)
    except jinja2.TemplateSyntaxError as error:
        return f"line {error.lineno}: {error.message}"
    except (OSError, UnicodeDecodeError) as error:
        return str(error)
    return ""


def _template_of(file: str) -> Any:
    """The file as Jinja2's template."""
    return _environment().from_string(Path(file).read_text())


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Nothing is HTML: what needs to be escaped is written with tojson.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
