# SPDX-License-Identifier: MIT
"""``python -m htmengine.web``: the web service of the distributed deployment."""

if __name__ == "__main__":
    from htmengine.taps import WEB

    WEB.run()
