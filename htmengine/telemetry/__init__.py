# SPDX-License-Identifier: MIT
"""What a process tells about itself: figures for Prometheus, health, samples of its own."""
