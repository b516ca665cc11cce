# SPDX-License-Identifier: MIT
"""The JSON Schemas of the messages that other programs send and receive; docs/messages.md describes them.

>>> validate("samples", {"protocol": "plain", "data": ["cpu.load 0.5 1400000000"]})
>>> sorted(NAMES)
['model_command_result', 'model_inference_results', 'samples']
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator

NAMES = ("samples", "model_inference_results", "model_command_result")


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """One of `NAMES` as the object that its file holds."""
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def validate(name: str, message: Any) -> None:
    """Raises `jsonschema.ValidationError` if the message is not what its schema says."""
    Draft202012Validator(schema(name)).validate(message)
