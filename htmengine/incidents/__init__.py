# SPDX-License-Identifier: MIT
"""Incidents: alarms of a rule with a budget that are near in time, and what people did about them.

::

    budget, hold_off, silence  when an alarm is a page, and when a metric is silent
    grouping, roots            how alarms become incidents, and who moved first
    fleet, candidates          who has stopped, and which rows may alarm
    judging, budget_rules      what is stored, and the Alert Service's part for rules with a budget
    preview, explaining        what a rule would have done, and why it did or did not page
    records, queries           what the tables hold, and what is asked of the database

docs/alerts.md tells how they are used.
"""
