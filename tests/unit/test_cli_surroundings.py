# SPDX-License-Identifier: MIT
"""Commands where users have no name and no home, as in containers, and where nobody reads."""

from __future__ import annotations

import getpass
import os
import sys
from unittest.mock import patch

import platformdirs
import pytest

from htmengine.cli.common import user
from htmengine.cli.main import main
from htmengine.deployment import Deployment
from htmengine.errors import StartError


def test_a_user_without_a_name_is_a_number_in_the_audit() -> None:
    with patch.object(getpass, "getuser", side_effect=KeyError("getpwuid(): uid not found: 54321")):
        assert user() == f"uid {os.getuid()}"


def test_a_user_without_a_home_is_told_to_name_the_folder() -> None:
    with (
        patch.object(platformdirs, "user_data_dir", side_effect=RuntimeError("could not determine the home directory")),
        pytest.raises(StartError, match="--data-dir"),
    ):
        Deployment.embedded(None, None)


def test_a_closed_standard_output_takes_what_is_written() -> None:
    assert main.callback is not None
    with patch.object(sys, "stdout", None):
        main.callback()
        assert sys.stdout is not None
        print("nobody reads this")
        sys.stdout.close()
