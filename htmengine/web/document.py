# SPDX-License-Identifier: MIT
"""The OpenAPI document: it describes the API's operations, and checks what they are given.

In: openapi.json of this package, query strings and JSON bodies.  Out: plain values with their defaults, or
`Refused` that names every field which is to blame.  What the document allows and what is accepted cannot differ.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from htmengine.web.refused import Refused

#: Errors that one answer names.
MOST_ERRORS = 20
#: What an answer shows of a value.
_SHOWN = 60
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_METHODS = ("get", "put", "post", "delete")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    name: str  #: the operationId
    method: str
    path: str
    scope: str | None  #: "read", "send", "operate", "admin", or None: open to everybody
    query: Mapping[str, Any]  #: the schema of its query parameters, as one object
    body: Mapping[str, Any] | None  #: the schema of its JSON body
    document: Mapping[str, Any]

    def read_query(self, query: bytes) -> dict[str, Any]:
        """Parameters with their defaults.  Raises `Refused`."""
        properties: Mapping[str, Any] = self.query["properties"]
        values: dict[str, Any] = {}
        for name, text in parse_query(query):
            schema = properties.get(name, {})
            if schema.get("type") == "array":
                values.setdefault(name, []).append(_convert(text, schema["items"]))
            elif name in values:
                raise Refused(400, f"{name}: given twice", [(name, "given twice")])
            else:
                values[name] = _convert(text, schema)
        self._check(values, self.query)
        defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
        return defaults | values

    def read_body(self, body: bytes) -> Any:
        """The JSON body.  Raises `Refused`."""
        assert self.body is not None
        value = parse_json(body)
        self._check(value, self.body)
        return value

    def _check(self, value: Any, schema: Mapping[str, Any]) -> None:
        whole = {**schema, "components": self.document["components"]}
        found = _refusals(Draft202012Validator(whole).iter_errors(value))
        if found:
            raise refused(found)


class Document:
    """The document of this package, or another one.

    >>> document = Document()
    >>> document.operations["list_metrics"].read_query(b"limit=5&status=ACTIVE")
    {'sort': 'name', 'limit': 5, 'status': ['ACTIVE']}
    >>> document.operations["list_metrics"].read_query(b"limit=0")
    Traceback (most recent call last):
    htmengine.web.refused.Refused: limit: 0 is less than 1
    """

    def __init__(self, source: Mapping[str, Any] | None = None) -> None:
        self.source = source or json.loads(resources.files(__package__).joinpath("openapi.json").read_bytes())
        self.operations = {operation.name: operation for operation in self._operations()}

    def _operations(self) -> Iterator[Operation]:
        for path, item in self.source["paths"].items():
            for method in _METHODS:
                if method in item:
                    yield self._operation(path, method, item[method], item.get("parameters", []))

    def _operation(self, path: str, method: str, operation: Mapping[str, Any], shared: list[Any]) -> Operation:
        parameters = [self._resolve(each) for each in [*shared, *operation.get("parameters", [])]]
        query = {each["name"]: self._resolve(each["schema"]) for each in parameters if each["in"] == "query"}
        required = [each["name"] for each in parameters if each["in"] == "query" and each.get("required")]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        return Operation(
            operation["operationId"],
            method.upper(),
            path,
            _scope(operation["security"]),
            {"type": "object", "properties": query, "required": required, "additionalProperties": False},
            body and body["schema"],
            self.source,
        )

    def _resolve(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Any = part
        while "$ref" in found:
            reference = found["$ref"]
            found = self.source
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]
        resolved: Mapping[str, Any] = found
        return resolved


def _scope(security: list[dict[str, list[str]]]) -> str | None:
    return next((scope for each in security for scopes in each.values() for scope in scopes), None)


# --- reading --------------------------------------------------------------------------------------------


def parse_query(query: bytes) -> list[tuple[str, str]]:
    """Names and values of a query string or a form.  Raises `Refused`."""
    try:
        text = query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except UnicodeDecodeError:
        raise Refused(400, "the query is not percent-encoded UTF-8") from None
    except ValueError:
        raise Refused(400, "the query has more than 1000 parameters") from None


def parse_json(body: bytes) -> Any:
    """Strict JSON: no NaN, no infinities, no key twice in an object, of which one would be lost.  Raises `Refused`."""
    try:
        return json.loads(
            body.decode(),
            parse_float=_finite,
            parse_constant=_no_constant,
            parse_int=_whole,
            object_pairs_hook=_with_keys_once,
        )
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {_cut(str(error))}") from None


def refused(errors: list[tuple[str, str]]) -> Refused:
    """The answer that names what is wrong."""
    shown = errors[:MOST_ERRORS]
    return Refused(400, "; ".join(f"{field}: {detail}" if field else detail for field, detail in shown[:3]), shown)


def _with_keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {_cut(twice)} stands twice in an object")
    return made


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_cut(text)} is too large a number")
    return value


def _whole(text: str) -> int | float:
    return int(text) if len(text) <= 18 else _finite(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _convert(text: str, schema: Mapping[str, Any]) -> Any:
    """The value that the schema's type asks for; what is no such value stays text, which the schema then refuses."""
    kind = schema.get("type")
    if kind == "integer" and _WHOLE.fullmatch(text):
        return int(text)
    if kind == "number":
        try:
            value = float(text)
        except ValueError:
            return text
        return value if math.isfinite(value) and "_" not in text else text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


# --- what is wrong --------------------------------------------------------------------------------------


def _refusals(errors: Iterable[ValidationError]) -> list[tuple[str, str]]:
    return [each for error in islice(errors, MOST_ERRORS) for each in _explain(error)]


def _explain(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it); unknown and missing ones are named themselves."""
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(".")
    rule: Any = error.validator_value
    given: Any = error.instance
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        allowed = sorted(schema.get("properties", {}))
        for name in sorted(set(given) - set(allowed)):
            yield _join(where, _cut(name)), f"unknown; allowed are {', '.join(allowed) or 'none'}"
    elif error.validator == "required":
        for name in rule:
            if name not in given:
                yield _join(where, name), "is missing"
    elif error.validator == "dependentRequired":
        for name, others in rule.items():
            if name in given:
                yield from ((_join(where, o), f"goes with {name}") for o in others if o not in given)
    else:
        yield where, f"{_shown(given)} {_RULES.get(str(error.validator), _other)(rule)}"


def _shown(value: Any) -> str:
    """A value as answers show it, without writing all of it first."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return _cut(json.dumps(value[: _SHOWN + 1] if isinstance(value, str) else value))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _other(rule: Any) -> str:
    return f"is not allowed; allowed is {_cut(json.dumps(rule), 200)}"


def _type(rule: Any) -> str:
    kinds = [rule] if isinstance(rule, str) else rule
    words = {"integer": "a whole number", "object": "an object", "array": "a list", "string": "a text"}
    return "is not " + " or ".join(words.get(kind, f"a {kind}" if kind != "null" else "null") for kind in kinds)


_RULES = {
    "type": _type,
    "minimum": lambda rule: f"is less than {rule}",
    "maximum": lambda rule: f"is greater than {rule}",
    "exclusiveMinimum": lambda rule: f"is not greater than {rule}",
    "minLength": lambda rule: f"has less than {rule} characters",
    "maxLength": lambda rule: f"has more than {rule} characters",
    "minItems": lambda rule: f"has less than {rule} items",
    "maxItems": lambda rule: f"has more than {rule} items",
    "pattern": lambda rule: "has characters that are not allowed",
    "enum": lambda rule: f"is none of {', '.join(map(str, rule))}",
    "const": lambda rule: f"is not {rule}",
    "anyOf": lambda rule: "is not allowed here",
}


def _cut(text: str, most: int = _SHOWN) -> str:
    return text if len(text) <= most else text[:most] + "…"
