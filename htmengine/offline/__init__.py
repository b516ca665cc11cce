# SPDX-License-Identifier: MIT
"""Scores without an engine: of files, of data frames, and row by row."""
