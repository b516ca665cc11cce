# SPDX-License-Identifier: MIT
"""A model as a file: what ``htmengine model export`` writes and ``htmengine model import`` reads.

A file is: magic ``HTMMODEL``, format 1 (u32), length of the header (u32), the header, the model, the likelihood,
SHA-256 of all before; little-endian.  The header is JSON: the metric's specification (``spec``), the model's
parameters (``params``), when the state was taken (``created_at``, epoch seconds), and the two lengths.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any

from htmengine.errors import CheckpointError, CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence.scoring import restored
from htmengine.htm.model import Model

_MAGIC = b"HTMMODEL"
_FORMAT = 1
_HEAD = struct.Struct("<8sII")
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model with its likelihood, the metric that it was learnt from, and its parameters."""

    spec: dict[str, Any]
    params: dict[str, Any]
    created_at: int
    model: bytes
    likelihood: bytes

    def pack(self) -> bytes:
        """The file's bytes."""
        sizes = {"model_bytes": len(self.model), "likelihood_bytes": len(self.likelihood)}
        header = {"spec": self.spec, "params": self.params, "created_at": self.created_at, **sizes}
        text = json.dumps(header, separators=(",", ":")).encode()
        body = b"".join((_HEAD.pack(_MAGIC, _FORMAT, len(text)), text, self.model, self.likelihood))
        return body + hashlib.sha256(body).digest()

    @classmethod
    def unpack(cls, data: bytes) -> ModelFile:
        """Read and check a file.  Raises `CorruptCheckpoint` or `UnknownCheckpointVersion` with the reason.

        >>> ModelFile.unpack(b"something else that is long enough")
        Traceback (most recent call last):
        htmengine.errors.CorruptCheckpoint: this is no exported model
        """
        if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEAD.size + _DIGEST_BYTES:
            raise CorruptCheckpoint("this is no exported model")
        _, version, header_bytes = _HEAD.unpack_from(data)
        if version != _FORMAT:
            raise UnknownCheckpointVersion(f"an exported model of format {version}; only {_FORMAT} is known")
        body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            raise CorruptCheckpoint("the file is damaged or cut short: its checksum does not match")
        try:
            header = json.loads(body[_HEAD.size : _HEAD.size + header_bytes])
            model_at = _HEAD.size + header_bytes
            likelihood_at = model_at + int(header["model_bytes"])
            file = cls(
                header["spec"],
                header["params"],
                int(header["created_at"]),
                body[model_at:likelihood_at],
                body[likelihood_at : likelihood_at + int(header["likelihood_bytes"])],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpoint(f"the header of the exported model cannot be read: {error!r}") from None
        file.check()
        return file

    def check(self) -> None:
        """Raises `CheckpointError` if this program cannot run the model."""
        try:
            params = Model.restore(self.model).params.to_json()
            restored(self.likelihood)
        except CheckpointError as error:
            raise type(error)(f"the exported model cannot be used: {error}") from None
        if params != self.params:
            raise CorruptCheckpoint("the exported model's parameters are not those of its header")
