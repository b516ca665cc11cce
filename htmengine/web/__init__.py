# SPDX-License-Identifier: MIT
"""The HTTP side: API, server-sent events, Graphite-style reads, and the page.

A request's way, each step a module::

    service    listens; owns what the others use, and its own way to the database
    site       bodies of bounded length, one deadline for all
    access     Host, Origin and tokens: may this client do that?
    routes     which handler has the path; every error becomes a problem document
    document   the OpenAPI document, by which parameters and bodies are checked
    api, skeleton, graphite   the handlers
    events     what server-sent events carry, from the database

Nothing here waits for a model or blocks the reactor: reading happens in threads, changes go through `Operations`.
"""
