# SPDX-License-Identifier: MIT
"""Results for other systems: what Prometheus gets of a metric, and whoever writes each result to one."""
