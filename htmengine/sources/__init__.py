# SPDX-License-Identifier: MIT
"""History in other systems: CSV files, exports of InfluxDB, Prometheus, Graphite, any SQL database.

In: an address and a query, or a file.  Out: pieces of series, which `htmengine load` keeps; a series may come in many
pieces.
"""

from htmengine.sources.pieces import Piece, ReadPieces

__all__ = ["Piece", "ReadPieces"]
