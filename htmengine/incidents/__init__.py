# SPDX-License-Identifier: MIT
"""Incidents: alarms of a rule with a budget that are near in time, and what people did about them.

::

    records  what the tables hold
    queries  what is asked of the database

docs/alerts.md tells how they are used.
"""
