# SPDX-License-Identifier: AGPL-3.0-only
"""Stands in for NuPIC where there is none."""
