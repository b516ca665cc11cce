# SPDX-License-Identifier: MIT
"""The compiled model core (htmengine/htm/core): the model, and its parts for tests and experiments.

``htmengine.htm.Model`` is its public face: it checks parameters, which this module trusts.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Bytes: TypeAlias = builtins.bytes | memoryview
#: A segment: its cell and its synapses, each a source cell and a permanence in the memory's units.
_Segment: TypeAlias = tuple[int, list[tuple[int, int]]]

class CorruptState(Exception):
    """Bytes that no model of these parameters has written."""

# --- parameters: new ones have the defaults of the C++ structures ---------------------------------------------

class Aspect:
    """What of a timestamp is encoded."""

    __members__: ClassVar[Mapping[str, Aspect]]
    time_of_day: ClassVar[Aspect]
    weekend: ClassVar[Aspect]
    day_of_week: ClassVar[Aspect]
    season: ClassVar[Aspect]
    holiday: ClassVar[Aspect]

class ValueKind:
    """How the value is encoded."""

    __members__: ClassVar[Mapping[str, ValueKind]]
    random_distributed_scalar: ClassVar[ValueKind]
    scalar: ClassVar[ValueKind]
    log: ClassVar[ValueKind]
    delta: ClassVar[ValueKind]

class EncoderParams:
    """All encoders of a model; NaN stands for a number that is not given."""

    def __init__(self) -> None: ...
    kind: ValueKind
    bits: int
    width: int
    resolution: float
    offset: float
    seed: int
    minimum: float
    maximum: float
    step: float
    periodic: bool
    clip: bool
    def add_date(self, aspect: Aspect, bits: int, width: int, span: float, step: float, periodic: bool, /) -> None: ...
    def add_holiday(self, year: int, month: int, day: int, /) -> None:
        """Add a day; ``year`` 0 means every year."""

class SpatialPoolerParams:
    """The spatial pooler's."""

    def __init__(self) -> None: ...
    inputs: int
    columns: int
    active_columns: int
    potential_pct: float
    connected: float
    increment: float
    decrement: float
    learn_every: int
    seed: int

class TemporalMemoryParams:
    """Those of both temporal memories."""

    def __init__(self) -> None: ...
    columns: int
    cells_per_column: int
    activation_threshold: int
    min_threshold: int
    new_synapses: int
    initial_permanence: float
    connected_permanence: float
    increment: float
    decrement: float
    max_synapses: int
    max_segments: int
    pam_length: int
    max_sequence: int
    max_inference: int
    max_learning: int
    predicted_segment_decrement: float
    seed: int

class ClassifierParams:
    """The classifier's."""

    def __init__(self) -> None: ...
    alpha: float
    steps: list[int]
    act_value_alpha: float

class ModelParams:
    """All of a model."""

    def __init__(self) -> None: ...
    encoder: EncoderParams
    spatial: SpatialPoolerParams
    temporal: TemporalMemoryParams
    plain: bool
    classify: bool
    classifier: ClassifierParams

# --- the model ------------------------------------------------------------------------------------------------

class Model:
    """One model; several threads may call it, one at a time computes."""

    def __init__(self, params: ModelParams, /) -> None: ...
    def row(self, timestamp: int, value: float, learning: bool, /) -> float: ...
    def learn_many(self, timestamps: NDArray[np.int64], values: NDArray[np.float64], /) -> NDArray[np.float64]: ...
    def predictions(self, steps: int, /) -> list[list[tuple[float, float]]]: ...
    def save(self) -> builtins.bytes: ...
    @staticmethod
    def restore(params: ModelParams, state: _Bytes, /) -> Model:
        """The model that ``save`` wrote.  Raises CorruptState."""
    @property
    def rows(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def synapses(self) -> int: ...
    @property
    def bytes(self) -> int: ...

# --- its parts ------------------------------------------------------------------------------------------------

class Encoders:
    """From rows to input bits."""

    def __init__(self, params: EncoderParams, /) -> None: ...
    @property
    def bits(self) -> int: ...
    def encode(self, timestamp: int, value: float, /) -> tuple[int, list[int]]:
        """The value's bucket and the numbers of the bits that are on."""

def bucket_bits(bits: int, width: int, seed: int, bucket: int, /) -> list[int]:
    """The bits of one bucket of the random distributed scalar encoder, by position."""

class SpatialPooler:
    """From input bits to columns."""

    def __init__(self, params: SpatialPoolerParams, /) -> None: ...
    def compute(self, on: Sequence[int], learning: bool, /) -> list[int]:
        """The winning columns, ascending."""
    def overlaps(self, on: Sequence[int], /) -> list[int]: ...
    def permanences(self, column: int, /) -> list[int]:
        """By input, in ten-thousandths; -1 for an input outside the column's pool."""
    def set_permanence(self, column: int, input: int, permanence: int, /) -> None: ...
    @property
    def learnt_columns(self) -> int:
        """Columns that have learnt."""

class Segments:
    """Segments by themselves, with permanences in hundredths and connected from 0.5."""

    def __init__(self, max_segments: int, max_synapses: int, seed: int, /) -> None: ...
    def create(self, owner: int, /) -> int: ...
    def adapt(self, segment: int, active: Sequence[int], up: float, down: float, /) -> int:
        """Synapses from ``active`` change by ``up``, the others by ``down``; returns how many of the former stay."""
    def grow(self, segment: int, wanted: int, cells: Sequence[int], initial: float, /) -> None:
        """Add synapses from up to ``wanted`` of the cells; the weakest give way where there is no room."""
    def segment_list(self) -> list[_Segment]: ...
    @property
    def bytes(self) -> int: ...

class BacktrackingMemory:
    """The backtracking temporal memory, with permanences in hundredths."""

    def __init__(self, params: TemporalMemoryParams, /) -> None: ...
    def row(self, active: Sequence[int], learning: bool, /) -> float: ...
    def segment_list(self) -> list[_Segment]: ...
    @property
    def segments(self) -> int: ...
    @property
    def synapses(self) -> int: ...
    @property
    def predicted_columns(self) -> int: ...
    @property
    def hinted_columns(self) -> int: ...
    @property
    def at_sequence_start(self) -> bool:
        """Whether learning stands on start cells."""

class PlainMemory:
    """The plain temporal memory, with permanences in hundredths."""

    def __init__(self, params: TemporalMemoryParams, /) -> None: ...
    def row(self, active: Sequence[int], learning: bool, /) -> float: ...
    def segment_list(self) -> list[_Segment]: ...
    @property
    def segments(self) -> int: ...
    @property
    def synapses(self) -> int: ...

class Classifier:
    """The SDR classifier by itself."""

    def __init__(self, params: ClassifierParams, /) -> None: ...
    def row(self, cells: Sequence[int], value: float, bucket: int, learning: bool, /) -> None:
        """Take in a row: its active cells, its value and the value's bucket (65535: a missing value)."""
    def predict(self, step: int, /) -> list[tuple[float, float]]:
        """Values and their probabilities after ``steps[step]`` rows, best first."""
