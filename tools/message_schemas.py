# SPDX-License-Identifier: MIT
"""The JSON Schemas of the public messages, made from the types that read them.

``python -m tools.message_schemas`` writes htmengine/message_schemas/*.json into the checkout that it is started in; a
test tells when that was forgotten.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from htmengine.messages.broadcast import CommandOutcome, InferenceResults
from htmengine.messages.samples import SamplesMessage

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: The schema's name, the message's type, and the title.
MESSAGES: dict[str, tuple[type[msgspec.Struct], str]] = {
    "samples": (SamplesMessage, "Samples queue: a batch of samples"),
    "model_inference_results": (
        InferenceResults,
        "Results exchange: scored rows of one metric (zlib-compressed JSON)",
    ),
    "model_command_result": (
        CommandOutcome,
        "Results exchange: a command's result (header dataType: model-cmd-result; zlib-compressed JSON)",
    ),
}


def text(name: str) -> str:
    """The text of one of the files."""
    of, title = MESSAGES[name]
    made = msgspec.json.schema(of)
    parts: dict[str, Any] = made["$defs"]
    if of is not SamplesMessage:  # what the engine sends has all properties, but for those that may be left out
        for part in parts.values():
            known = part.get("required", ())
            part["required"] = [name for name, kind in part["properties"].items() if name in known or "default" in kind]
    message = parts.pop(of.__name__)
    schema = {"$schema": _DIALECT, **message, "title": title}
    if parts:
        schema["$defs"] = parts
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(checkout: Path) -> None:
    """Write the files into a checkout."""
    for name in MESSAGES:
        (checkout / "htmengine" / "message_schemas" / f"{name}.json").write_text(text(name))


if __name__ == "__main__":
    write(Path.cwd())
