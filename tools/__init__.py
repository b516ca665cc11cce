# SPDX-License-Identifier: MIT
"""Writes the documents that are made from the code; no part of the package."""
