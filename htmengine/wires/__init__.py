# SPDX-License-Identifier: MIT
"""How metrics come in: one module a protocol, each from bytes to the same samples; none knows a socket or a queue.

The modules:

    samples          what every wire ends in: samples, and counts of what was refused or left out
    compression      bodies made long again, within bounds
    pickle_frames    carbon's pickles (port 2004)
    protobuf_frames  carbon's protobuf (port 2005)
    statsd           statsd's lines and what they add up to at each flush
    remote_write     Prometheus remote_write 1.0 and 2.0
    otlp             OpenTelemetry's metrics, protobuf and JSON
    influx           InfluxDB's line protocol
    sniff            another protocol's first bytes on the line port
    plugins          what other packages bring
    counters         counters to rates
    histograms       buckets to quantiles
    admission        which metrics may come in, and under which name
"""
