# SPDX-License-Identifier: MIT
"""What is written about the options, made from the options: conf/*.conf and docs/configuration.md.

``python -m tools.config_pages`` writes both into the checkout that it is started in; a test tells when that was
forgotten.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from htmengine.config import ENVIRONMENT_PREFIX, FILES, LEGACY
from htmengine.config_files import conf, option_text, sections

_PAGE = f"""# Configuration

`APPLICATION_CONFIG_PATH` names the folder with `application.conf`, `model-swapper.conf`, `model-checkpoint.conf`
and `rabbitmq.conf`. The folder `conf/` of the source tree has all four, with every option at its default. A
distributed engine needs the folder; an embedded one runs without it. A missing file, section or option has its
default. Sections that the engine does not know belong to the application and are left alone; an option that a known
section does not have is refused.

Every option can be overridden by an environment variable, `{ENVIRONMENT_PREFIX}<FILE>__<SECTION>__<OPTION>` in
capitals, with `_` for `-`: `{ENVIRONMENT_PREFIX}MODEL_SWAPPER__INTERFACE_BUS__SHARDS=32`. Passwords and tokens belong
there, or in files that only the engine's user can read; no log shows them.

`htmengine check-config` lists all errors at once: file, section, option, the value, and what is
allowed. Alerts have a file of their own, [alerts.conf](alerts.md).
"""
_LEGACY = """
## Options that only HTM Engine had

The engine accepts them; `htmengine check-config` and each start warn about them.

| file | section | option | |
|---|---|---|---|
"""


def page() -> str:
    """The text of docs/configuration.md."""
    parts = [_PAGE]
    for file in FILES:
        for section, fields in sections(file):
            parts.append(f"\n## {file}.conf, [{section}]\n\n| option | default | allowed | |\n|---|---|---|---|\n")
            parts += [_row(each) for each in fields]
    parts.append(_LEGACY)
    for (file, section, name), legacy in LEGACY.items():
        what = legacy.why if legacy.place else f"no effect: {legacy.why}"
        parts.append(f"| {file}.conf | {section} | `{name}` | {what} |\n")
    return "".join(parts)


def write(checkout: Path) -> None:
    """Write the files into a checkout."""
    for file in FILES:
        (checkout / "conf" / f"{file}.conf").write_text(conf(file))
    (checkout / "docs" / "configuration.md").write_text(page())


def _row(option: dataclasses.Field[Any]) -> str:
    default = f"`{option_text(option.default)}`" if option_text(option.default) else "empty"
    return f"| `{option.name}` | {default} | {option.metadata['kind'].allowed} | {option.metadata['help']} |\n"


if __name__ == "__main__":
    write(Path.cwd())
