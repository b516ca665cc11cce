# SPDX-License-Identifier: MIT
"""The documents tell the truth: links lead somewhere, commands and their options exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import SkipTest, TestCase

import click

from htmengine.cli.main import SUMMARIES, main
from tools import command_summaries, decisions_index, shared_files
from tools.commands_page import reference

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def shell_lines() -> Iterator[tuple[str, str]]:
    """(document, command line) of all console blocks and of commands in the text."""
    for document in DOCUMENTS:
        text = document.read_text()
        name = document.relative_to(ROOT).as_posix()
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            if language not in {"", "console", "sh", "bash"}:
                continue
            for line in block.replace("\\\n", " ").splitlines():
                yield name, line.removeprefix("$ ")
        for inline in re.findall(r"`((?:htmengine|make) [^`\n]+)`", text):
            yield name, inline


def anchors(text: str) -> list[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    names = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
    return [name + (f"-{count}" if (count := names[:place].count(name)) else "") for place, name in enumerate(names)]


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words begin with, and the words after it."""
    command: click.Command = main
    while words and isinstance(command, click.Group):
        if words[0] not in command.commands:
            raise AssertionError(f"no command {' '.join(words)!r}")
        command, words = command.commands[words[0]], words[1:]
    return command, words


class DocsTest(TestCase):
    def test_links_lead_to_files_and_headings(self) -> None:
        for document in DOCUMENTS:
            for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text()):
                if "://" in target or target.startswith("mailto:"):
                    continue
                file = document.parent / target if target else document
                self.assertTrue(file.exists(), f"{document.name}: {target}")
                if heading:
                    self.assertIn(heading, anchors(file.read_text()), f"{document.name}: {target}#{heading}")

    def test_tests_that_pages_name_are_there(self) -> None:
        for document in DOCUMENTS:
            for path in re.findall(r"`(tests/[\w/]+\.py)`", document.read_text()):
                self.assertTrue((ROOT / path).exists(), f"{document.name}: {path}")

    def test_anchors_are_github_s(self) -> None:
        text = "# One `pool_size`: two, (three)\n```\n# no heading\n```\n## Again\n## Again\n"
        self.assertEqual(anchors(text), ["one-pool_size-two-three", "again", "again-1"])

    def test_the_index_of_decisions_lists_them(self) -> None:
        wanted = decisions_index.index(decisions_index.pages(ROOT))
        self.assertEqual((ROOT / decisions_index.INDEX).read_text(), wanted, "make pages renews the index")

    def test_commands_and_their_options_exist(self) -> None:
        checked = 0
        for document, line in shell_lines():
            found = re.search(r"(?:^|[ /|])htmengine (?!run\b.*\|)([a-z].*)", line)
            if found is None or line.lstrip().startswith("#"):
                continue
            words = shlex.split(found.group(1).split("|")[0].split(">")[0], comments=True)
            try:
                command, rest = find_command(words)
            except AssertionError as error:
                self.fail(f"{document}: {error}")
            known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            for word in rest:
                if re.match(r"--?[a-zA-Z]", word):
                    self.assertIn(word.split("=")[0], known | {"--help", "-h"}, f"{document}: {line}")
            checked += 1
        self.assertGreater(checked, 5)

    def test_no_service_is_started_with_the_working_folder_on_the_path_of_modules(self) -> None:
        for document in DOCUMENTS:
            self.assertNotRegex(document.read_text(), r"python3? -m htmengine", document.name)

    def test_make_targets_exist(self) -> None:
        for document, line in shell_lines():
            for target in re.findall(r"(?:^|\s)make ([a-z-]+)", line):
                self.assertIn(target, MAKE_TARGETS, f"{document}: {line}")

    def test_the_command_reference_is_what_the_commands_say(self) -> None:
        page = (ROOT / "docs" / "commands.md").read_text()
        self.assertEqual(page, reference(), "make pages renews the page")

    def test_what_help_lists_is_what_the_commands_say(self) -> None:
        self.assertEqual(SUMMARIES.read_text(), command_summaries.text(), "make pages renews it")

    def test_manual_page_and_completion_are_what_the_commands_say(self) -> None:
        for path, text in shared_files.files().items():
            self.assertEqual((ROOT / path).read_text(), text, f"{path}: make pages renews it")

    def test_man_understands_the_manual_page(self) -> None:
        if not shutil.which("groff"):
            raise SkipTest("needs groff")
        groff = ["groff", "-man", "-Tutf8", "-z", "-ww", ROOT / shared_files.MANUAL_PAGE]
        done = subprocess.run(groff, capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
