# SPDX-License-Identifier: MIT
"""``python -m htmengine.alerts``: the alert service of the distributed deployment."""

if __name__ == "__main__":
    from htmengine.taps import ALERTS

    ALERTS.run()
