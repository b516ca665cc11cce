# SPDX-License-Identifier: MIT
"""One metric's model: timestamps and values in, raw anomaly scores out; learns on every row.

In: a ``ModelParams`` and rows, or the bytes of an earlier ``save``.  Out: raw scores, predictions, bytes.  Called by
the model runner, the CLI and applications.  The computation is in the compiled core (``htmengine/htm/core``); this
module translates parameters and frames checkpoints.

A checkpoint::

    magic "HTMmodel" | version u16 | CRC-32 u32 of all that follows | length u32 | header | state
    header: JSON {"params": ModelParams.to_json(), "seed": seed}
    state:  what the compiled core writes, exact to the bit
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from typing import TYPE_CHECKING, Self

from htmengine.errors import CorruptCheckpoint, InvalidModelSpec, UnknownCheckpointVersion
from htmengine.htm import _core
from htmengine.htm.params import (
    PLAIN,
    DateField,
    DateParams,
    DeltaParams,
    LogParams,
    ModelParams,
    RandomDistributedScalarParams,
    ScalarParams,
    SpatialPoolerParams,
    TemporalMemoryParams,
    ValueParams,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAGIC = b"HTMmodel"
_VERSION = 4
_FRAME = struct.Struct("<8sHII")
_CHECKED_FROM = _FRAME.size - 4  # the CRC covers the header's length and all after it
_MAX_HEADER_BYTES = 1 << 20


class Model:
    """An HTM model of one metric.

    ``seed`` 0 is the standard model; any other shifts the seeds of encoder, pooler and temporal memory, for
    experiments that average over chance.

    >>> from htmengine.htm import Model, ModelParams
    >>> model = Model(ModelParams.for_range(0.0, 100.0))
    >>> model.learn(1_500_000_000, 42.0)  # nothing is expected of the first row
    1.0
    >>> scores = [model.learn(1_500_000_000 + 300 * row, 50.0 + 10 * (row % 4)) for row in range(1, 400)]
    >>> scores[-1]
    0.0
    >>> copy = Model.restore(model.save())
    >>> copy.save() == model.save()
    True
    """

    def __init__(self, params: ModelParams, *, seed: int = 0) -> None:
        self.params = params
        self._seed = seed
        self._core = _core.Model(core_params(params, seed))

    def learn(self, timestamp: int, value: float) -> float:
        """The raw score of a row, from 0 (all expected) to 1 (nothing expected), and learn from it.

        ``timestamp`` is in epoch seconds, UTC; ``value`` may be NaN: missing.  Raises ValueError for a value outside
        the range of a scalar encoder that does not clip; the model is then as before.
        """
        return self._core.row(timestamp, value, True)

    def score(self, timestamp: int, value: float) -> float:
        """The raw score of a row, without learning from it: only the place in the sequence moves on."""
        return self._core.row(timestamp, value, False)

    def learn_many(self, timestamps: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The raw scores of n rows, learnt one after the other; both arrays and the result have shape (n,).

        Other Python threads run meanwhile.  Raises ValueError as ``learn`` does, before the first row is learnt.

        >>> import numpy as np
        >>> Model(ModelParams.for_range(0, 1)).learn_many(np.array([0, 300]), np.array([0.5, 0.6]))
        array([1., 1.])
        """
        return self._core.learn_many(timestamps, values)

    def predictions(self) -> dict[int, list[tuple[float, float]]] | None:
        """What the classifier expects after the last row: ``{step: [(value, probability), ...]}``, best first.

        At most 8 values a step, none below a probability of 0.0001.  None for a model without a classifier.
        """
        if self.params.classifier is None:
            return None
        steps = self.params.classifier.steps
        return dict(zip(steps, self._core.predictions(len(steps)), strict=True))

    @property
    def rows(self) -> int:
        """Rows so far, learnt or only scored."""
        return self._core.rows

    @property
    def segments(self) -> int:
        """Segments of the temporal memory."""
        return self._core.segments

    @property
    def synapses(self) -> int:
        """Synapses of the temporal memory."""
        return self._core.synapses

    @property
    def memory_bytes(self) -> int:
        """Memory of this model alone, in bytes; tables that all models of the same parameters share are not counted."""
        return self._core.bytes

    def save(self) -> bytes:
        """The whole model as bytes: ``restore`` gives one that goes on exactly as this one would."""
        header = json.dumps({"params": self.params.to_json(), "seed": self._seed}, separators=(",", ":")).encode()
        head, state = struct.pack("<I", len(header)) + header, self._core.save()
        checksum = zlib.crc32(state, zlib.crc32(head))
        return b"".join((struct.pack("<8sHI", _MAGIC, _VERSION, checksum), head, state))

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """The model that ``save`` wrote.

        Raises UnknownCheckpointVersion for one that another version of this program wrote, CorruptCheckpoint for
        bytes that are damaged or no checkpoint at all.
        """
        header, state = _unframe(data)
        try:
            document = json.loads(header)
            params, seed = ModelParams.from_json(document["params"]), int(document["seed"])
            core = _core.Model.restore(core_params(params, seed), state)
        except (ValueError, LookupError, TypeError, RecursionError, InvalidModelSpec, _core.CorruptState) as error:
            raise CorruptCheckpoint(f"not the state of a model: {error}") from error
        model = cls.__new__(cls)
        model.params, model._seed, model._core = params, seed, core
        return model


def _unframe(data: bytes) -> tuple[bytes, memoryview]:
    """Header and state of a checkpoint whose frame is sound."""
    if len(data) < _FRAME.size or not data.startswith(_MAGIC):
        raise CorruptCheckpoint("not a model checkpoint")
    _, version, checksum, length = _FRAME.unpack_from(data)
    if version != _VERSION:
        raise UnknownCheckpointVersion(f"checkpoint version {version}; this program reads version {_VERSION}")
    view = memoryview(data)
    if zlib.crc32(view[_CHECKED_FROM:]) != checksum:
        raise CorruptCheckpoint("the checksum does not match")
    if length > min(len(data) - _FRAME.size, _MAX_HEADER_BYTES):
        raise CorruptCheckpoint("the header is cut short")
    return bytes(view[_FRAME.size : _FRAME.size + length]), view[_FRAME.size + length :]


# --- our parameters as the compiled core takes them -----------------------------------------------------------


def core_params(params: ModelParams, seed: int = 0) -> _core.ModelParams:
    """Our parameters as the compiled core takes them; ``seed`` shifts the seeds of its parts."""
    core = _core.ModelParams()
    core.encoder = _encoder(params.value, params.date, seed)
    core.spatial = _spatial(params.spatial, seed)
    core.temporal = _temporal(params.temporal, seed)
    core.plain = params.temporal.kind == PLAIN
    if params.classifier is not None:
        core.classify = True
        core.classifier = _core.ClassifierParams()
        core.classifier.alpha = params.classifier.alpha
        core.classifier.steps = list(params.classifier.steps)
        core.classifier.act_value_alpha = params.classifier.act_value_alpha
    return core


def _shifted(seed: int, shift: int) -> int:
    return (seed + shift) % 2**64


def _encoder(value: ValueParams, date: DateParams, seed: int) -> _core.EncoderParams:
    core = _core.EncoderParams()
    core.bits, core.width = value.bits, value.w
    match value:
        case RandomDistributedScalarParams():
            core.kind = _core.ValueKind.random_distributed_scalar
            core.resolution = value.resolution
            core.offset = math.nan if value.offset is None else value.offset
            core.minimum = math.nan if value.minval is None else value.minval
            core.maximum = math.nan if value.maxval is None else value.maxval
            core.seed = _shifted(value.seed, seed)
        case ScalarParams():
            core.kind = _core.ValueKind.scalar
            core.minimum, core.maximum, core.step = value.minval, value.maxval, value.step
            core.periodic, core.clip = value.periodic, value.clip_input
        case LogParams():
            core.kind = _core.ValueKind.log
            core.minimum, core.maximum, core.step = math.log10(value.minval), math.log10(value.maxval), value.step
        case DeltaParams():
            core.kind = _core.ValueKind.delta
            core.minimum = math.nan if value.minval is None else value.minval
            core.maximum = math.nan if value.maxval is None else value.maxval
    for name, (span, periodic) in DateParams.ASPECTS.items():
        field: DateField | None = getattr(date, name)
        if field is not None:
            bits = field.bits(span, periodic=periodic)
            core.add_date(_core.Aspect.__members__[name], bits, field.w, span, field.radius / field.w, periodic)
    for day in date.holidays:
        core.add_holiday(*(day if len(day) == 3 else (0, *day)))
    return core


def _spatial(spatial: SpatialPoolerParams, seed: int) -> _core.SpatialPoolerParams:
    core = _core.SpatialPoolerParams()
    core.columns, core.active_columns = spatial.columns, spatial.active_columns
    core.potential_pct, core.connected = spatial.potential_pct, spatial.connected
    core.increment, core.decrement = spatial.increment, spatial.decrement
    core.learn_every, core.seed = spatial.learn_every, _shifted(spatial.seed, seed)
    return core


def _temporal(temporal: TemporalMemoryParams, seed: int) -> _core.TemporalMemoryParams:
    core = _core.TemporalMemoryParams()
    core.cells_per_column = temporal.cells_per_column
    core.activation_threshold, core.min_threshold = temporal.activation_threshold, temporal.min_threshold
    core.new_synapses, core.max_synapses = temporal.new_synapses, temporal.max_synapses
    core.max_segments = temporal.max_segments
    core.initial_permanence, core.connected_permanence = temporal.initial_permanence, temporal.connected_permanence
    core.increment, core.decrement = temporal.increment, temporal.decrement
    core.predicted_segment_decrement = temporal.predicted_segment_decrement
    core.pam_length, core.max_sequence = temporal.pam_length, temporal.max_sequence
    core.max_inference, core.max_learning = temporal.max_inference, temporal.max_learning
    core.seed = _shifted(temporal.seed, seed)
    return core
