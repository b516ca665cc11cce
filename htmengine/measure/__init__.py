# SPDX-License-Identifier: MIT
"""Measurements that commands make: what a model costs, what a machine carries."""
