# SPDX-License-Identifier: MIT
"""How answers are written: series and nodes in the formats that Graphite's clients ask for.

In: series or nodes.  Out: bytes and their content type.  graphite-web asks its cluster's servers for pickle or msgpack;
what is pickled are plain lists and numbers.
"""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any, NamedTuple, TypeVar

import msgspec

from htmengine.csv_files import inert
from htmengine.web.graphite.paths import Node
from htmengine.web.graphite.series import LATEST, Series
from htmengine.web.http import JSON, TEXT, dump, dump_list, pieces
from htmengine.web.refused import Refused

PICKLE = "application/pickle"
MSGPACK = "application/x-msgpack"
CSV = "text/csv; charset=utf-8"
#: Protocol 2 is what every graphite-web can read.
_PICKLE_PROTOCOL = 2


class SeriesFormat(NamedTuple):
    """``encode`` takes series, and the zone of the times that people read."""

    encode: Callable[[list[Series], tzinfo], bytes]
    content_type: str


class NodeFormat(NamedTuple):
    """``encode`` takes nodes in the order of their names."""

    encode: Callable[[list[Node]], bytes]
    content_type: str


Format = TypeVar("Format", SeriesFormat, NodeFormat)


def format_named(name: str, formats: dict[str, Format]) -> Format:
    """Raises `Refused` for one that there is not."""
    if name not in formats:
        allowed = ", ".join(sorted(formats))
        raise Refused(400, f"format: {name[:60]} is none of {allowed}", [("format", f"allowed are {allowed}")])
    return formats[name]


# --- series ---------------------------------------------------------------------------------------------


def _json(found: list[Series], _zone: tzinfo) -> bytes:
    return b"[" + b",".join(map(_json_series, found)) + b"]"


def _json_without_nulls(found: list[Series], _zone: tzinfo) -> bytes:
    return b"[" + b",".join(_json_series(series, nulls=False) for series in found) + b"]"


def _json_series(series: Series, nulls: bool = True) -> bytes:
    head = dump({"target": series.name, "tags": series.tags})[:-1]
    shown = series.datapoints if nulls else (point for point in series.datapoints if point[0] is not None)
    return head + b',"datapoints":' + dump_list(shown) + b"}"


def _raw(found: list[Series], _zone: tzinfo) -> bytes:
    """A line each: ``name,start,end,step|values``."""
    return b"".join(
        f"{series.name},{series.start},{series.end},{series.step}|".encode()
        + ",".join(",".join(map(str, piece)) for piece in pieces(series.values)).encode()
        + b"\n"
        for series in found
    )


def _csv(found: list[Series], zone: tzinfo) -> bytes:
    """A line a point: name, time, value, which is empty where there is none."""
    written = io.StringIO()
    writer = csv.writer(written)
    for series in found:
        name = inert(series.name)
        for piece in pieces(series.datapoints):
            writer.writerows(
                (name, f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S}", value) for value, at in piece
            )
    return written.getvalue().encode()


def _facts(series: Series) -> dict[str, Any]:
    """What graphite-web wants to know of another server's series."""
    return {
        "name": series.name,
        "start": series.start,
        "end": series.end,
        "step": series.step,
        "values": list(series.values),
        "pathExpression": series.expression or series.path,
        "valuesPerPoint": 1,
        "consolidationFunc": series.consolidation,
        "xFilesFactor": 0.0,
    }


#: JSON for those who ask for noNullPoints.
JSON_WITHOUT_NULLS = SeriesFormat(_json_without_nulls, JSON)
SERIES_FORMATS = {
    "json": SeriesFormat(_json, JSON),
    "raw": SeriesFormat(_raw, TEXT),
    "csv": SeriesFormat(_csv, CSV),
    "pickle": SeriesFormat(lambda found, _: pickle.dumps(list(map(_facts, found)), _PICKLE_PROTOCOL), PICKLE),
    "msgpack": SeriesFormat(lambda found, _: msgspec.msgpack.encode(list(map(_facts, found))), MSGPACK),
}


# --- nodes ----------------------------------------------------------------------------------------------


def _tree(nodes: list[Node]) -> bytes:
    """Each name once; one that is both can be drawn and opened."""
    kinds: dict[str, set[bool]] = {}
    for path, is_leaf in nodes:
        kinds.setdefault(path, set()).add(is_leaf)
    return dump_list(_place(path, True in found, False in found) for path, found in kinds.items())


def _place(path: str, draws: bool, opens: bool) -> dict[str, Any]:
    return {
        "text": path.rpartition(".")[2],
        "id": path,
        "leaf": int(draws),
        "expandable": int(opens),
        "allowChildren": int(opens),
        "context": {},
    }


def _completer(nodes: list[Node]) -> bytes:
    return dump(
        {
            "metrics": [
                {
                    "name": node.name,
                    "path": node.path if node.is_leaf else f"{node.path}.",
                    "is_leaf": str(int(node.is_leaf)),
                }
                for node in nodes
            ]
        }
    )


def _node_list(nodes: list[Node]) -> bytes:
    return dump({"nodes": list(dict.fromkeys(node.path for node in nodes))})


def _intervals(nodes: list[Node]) -> list[dict[str, Any]]:
    """What graphite-web wants to know of another server's nodes; each may have rows of any time."""
    return [
        {"path": node.path, "is_leaf": node.is_leaf, **({"intervals": [(0, LATEST)]} if node.is_leaf else {})}
        for node in nodes
    ]


NODE_FORMATS = {
    "treejson": NodeFormat(_tree, JSON),
    "completer": NodeFormat(_completer, JSON),
    "nodelist": NodeFormat(_node_list, JSON),
    "pickle": NodeFormat(lambda nodes: pickle.dumps(_intervals(nodes), _PICKLE_PROTOCOL), PICKLE),
    "msgpack": NodeFormat(lambda nodes: msgspec.msgpack.encode(_intervals(nodes)), MSGPACK),
}
