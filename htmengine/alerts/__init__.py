# SPDX-License-Identifier: MIT
"""Alerts: rules, when they fire, and how people are told.

::

    configuration  alerts.conf: rules and receivers
    conditions     which rows a rule looks at
    rule_index     which rules are for a metric
    evaluation     when a rule fires for a metric, and when that is over
    notifications  what a receiver is told, whatever its kind
    incident_messages  the same of an incident
    formats        the same as requests and mails
    sender         one attempt to send it
    courier        a receiver's messages, until each is delivered or given up

`htmengine.alerts.service` puts this together; docs/alerts.md tells how it is used.
"""
