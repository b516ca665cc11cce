# SPDX-License-Identifier: MIT
"""Graphite's read API on the stored metrics, so that Grafana's Graphite data source shows values and anomaly scores.

Each metric ``a.b.c`` is three series: ``a.b.c``, ``a.b.c.anomaly_score`` and ``a.b.c.raw_anomaly_score``::

    times      from and until in Graphite's forms
    paths      globs, and the tree of names
    targets    expressions: scale(sumSeries(web.*.requests), 60)
    series        what functions work on; how rows become points
    aggregations  many values as one: average, max, last
    signatures    what a function is given, checked
    combining, transforming, windows, selecting, naming   the functions
    functions     all of them by name
    evaluator     expressions to series, within bounds
    render        where the series come from
    formats       JSON, raw, CSV, pickle, msgpack
    tags          metrics by their labels
    events        incidents as annotations
    routes     /render, /metrics/find and what else Grafana asks for

docs/grafana.md shows how to set it up.
"""
