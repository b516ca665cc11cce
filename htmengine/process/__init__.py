# SPDX-License-Identifier: MIT
"""What a service is built of: its life, its tasks, its figures.  Imports only the errors."""
