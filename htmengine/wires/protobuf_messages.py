# SPDX-License-Identifier: MIT
"""Protobuf messages described by tables, so that nothing is generated and only the fields that are read are parsed.

In: names, numbers and types of fields; then bytes.  Out: the `protobuf` package's messages.  A field that is not in its
table is skipped by the parser; one of messages that is declared as bytes is cut out, but not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from htmengine.errors import InvalidBody
from htmengine.process.extras import optional

# Types and labels as FieldDescriptorProto numbers them.
DOUBLE, INT64, INT32, STRING, MESSAGE, BYTES, UINT32 = 1, 3, 5, 9, 11, 12, 13
OPTIONAL, REPEATED = 1, 3


class Field(NamedTuple):
    """A field: ``kind`` is one of the types above, or the name of a message in the same table."""

    name: str
    number: int
    kind: int | str
    label: int = OPTIONAL


def message_classes(package: str, messages: Mapping[str, Sequence[Field]]) -> dict[str, Any]:
    """The classes of these messages, in a pool of their own; raises `MissingExtra`."""
    descriptors = optional("google.protobuf.descriptor_pb2", "wires")
    pool = optional("google.protobuf.descriptor_pool", "wires").DescriptorPool()
    file = descriptors.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field in fields:
            described = message.field.add(name=field.name, number=field.number, label=field.label)
            if isinstance(field.kind, str):
                described.type, described.type_name = MESSAGE, f".{package}.{field.kind}"
            else:
                described.type = field.kind
    pool.Add(file)
    factory = optional("google.protobuf.message_factory", "wires")
    return {name: factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def parse(message_class: Any, body: bytes, most: int) -> Any:
    """The message in a body of at most ``most`` bytes; raises `InvalidBody`."""
    if len(body) > most:
        raise InvalidBody("body_too_long", f"{len(body)} bytes; at most {most} are allowed")
    try:
        return message_class.FromString(body)
    except optional("google.protobuf.message", "wires").DecodeError:
        raise InvalidBody("not_protobuf", f"the body is no {message_class.DESCRIPTOR.full_name}") from None
