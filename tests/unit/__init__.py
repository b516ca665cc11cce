# SPDX-License-Identifier: MIT
"""The unit tests: no engine, no server, milliseconds each but for those marked ``long``.

Hypothesis tries 20 examples of each property, or as many as the environment variable HTMENGINE_EXAMPLES says.
"""

import os

from hypothesis import settings

settings.register_profile("htmengine", max_examples=int(os.environ.get("HTMENGINE_EXAMPLES", "20")), deadline=None)
settings.load_profile("htmengine")
