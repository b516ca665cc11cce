# SPDX-License-Identifier: MIT
"""conf/ and docs/configuration.md show every option there is, and what HTM Engine's files hold is understood."""

from __future__ import annotations

import configparser
import tempfile
from pathlib import Path
from unittest import TestCase

from htmengine.config import FILES, LEGACY, Config, load, options
from htmengine.config_files import conf
from htmengine.errors import ConfigError
from tools import config_pages

ROOT = Path(__file__).parents[2]


class PagesTest(TestCase):
    def test_conf_shows_every_option_at_its_default(self) -> None:
        shown = set()
        for file in FILES:
            parser = configparser.ConfigParser(interpolation=None)
            parser.read(ROOT / "conf" / f"{file}.conf")
            shown |= {(file, section, name) for section in parser.sections() for name in parser[section]}
        self.assertEqual(shown, {(file, section, each.name) for file, section, each in options()})
        self.assertEqual(load(ROOT / "conf", {}), Config())

    def test_conf_and_page_are_up_to_date(self) -> None:
        for file in FILES:
            self.assertEqual((ROOT / "conf" / f"{file}.conf").read_text(), conf(file))
        self.assertEqual((ROOT / "docs" / "configuration.md").read_text(), config_pages.page())

    def test_the_page_has_a_row_for_every_option(self) -> None:
        page = (ROOT / "docs" / "configuration.md").read_text()
        for _, _, each in options():
            self.assertIn(f"| `{each.name}` |", page)
        for _, _, name in LEGACY:
            self.assertIn(f"| `{name}` |", page)

    def test_supervisord_base_runs_the_services_of_htm_engine_in_one_group(self) -> None:
        parser = configparser.RawConfigParser()
        parser.read(ROOT / "conf" / "supervisord-base.conf")
        programs = parser["group:htmengine"]["programs"].split(",")
        self.assertLessEqual({"model_scheduler", "metric_listener", "metric_storer", "anomaly_service"}, set(programs))
        for program in programs:
            section = parser[f"program:{program}"]
            self.assertRegex(
                section["command"], r"^twistd -n --pidfile= htmengine-(scheduler|listener|storer|anomaly|web|alerts)$"
            )
            self.assertEqual((section["autorestart"], section["stopsignal"]), ("true", "TERM"))
            self.assertIn("stdout_logfile_maxbytes", section)


class LegacyTest(TestCase):
    def load(self, **files: str) -> tuple[Config, list[str]]:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / f"{name.replace('_', '-')}.conf").write_text(text)
            warnings: list[str] = []
            config = load(Path(folder), {}, warnings.append)
        return config, [warning.removeprefix(folder + "/") for warning in warnings]

    def test_options_that_moved_are_found_where_they_are_now(self) -> None:
        config, warnings = self.load(
            application="[metric_listener]\nplaintext_port = 2103\n",
            rabbitmq="[connection]\nhost = broker\nuser = me\npassword = mine\nvhost = /htm\n",
        )
        self.assertEqual(config.metric_listener.port, 2103)
        self.assertEqual((config.credentials.user, config.credentials.password), ("me", "mine"))
        self.assertEqual(config.connection.virtual_host, "/htm")
        self.assertIn("application.conf [metric_listener] plaintext_port: is called port", warnings)
        self.assertEqual(len(warnings), 4)
        self.assertNotIn("mine", "".join(warnings))

    def test_an_option_at_its_new_place_wins(self) -> None:
        config, _ = self.load(application="[metric_listener]\nplaintext_port = 1\nport = 2\n")
        self.assertEqual(config.metric_listener.port, 2)

    def test_options_without_a_meaning_are_accepted_with_a_warning(self) -> None:
        config, warnings = self.load(
            application="[metric_listener]\nprotocol = plain\n[anomaly_likelihood]\nstatistics_sample_size = 8640\n"
        )
        self.assertEqual(config, Config())
        self.assertEqual(
            warnings[0],
            "application.conf [metric_listener] protocol: no longer has an effect:"
            " Graphite's plaintext protocol is the only one",
        )

    def test_unknown_options_are_refused_and_sections_of_the_application_are_not(self) -> None:
        self.load(application="[my_own]\nanything = goes\n[DEFAULT]\nlevel = debug\n[web]\nport = 0\n")
        with self.assertRaisesRegex(ConfigError, r"\[web\] prot: no such option; perhaps port"):
            self.load(application="[web]\nprot = 0\n")

    def test_a_section_that_looks_misspelt_is_warned_of(self) -> None:
        _, warnings = self.load(application="[metric_listner]\nport = 2103\n[metrics_of_mine]\nport = 1\n")
        self.assertEqual(
            warnings,
            [
                "application.conf [metric_listner]: taken for the application's section;"
                " perhaps [metric_listener] is meant"
            ],
        )

    def test_a_section_in_the_wrong_file_is_warned_of(self) -> None:
        sections = (
            "[alert:all]\npages_per_week = 5\n[alerts]\nkeep_days = 3\n[storage]\nroot = /x\n[alert]\nof = mine\n"
        )
        _, warnings = self.load(application=sections)
        homes = {"[alert:all]": "alerts", "[alerts]": "alerts", "[storage]": "model-checkpoint"}
        expected = [
            f"application.conf {each}: not read here; it belongs in {home}.conf" for each, home in homes.items()
        ]
        self.assertEqual(warnings, expected)

    def test_a_file_may_begin_with_the_mark_of_windows(self) -> None:
        config, _ = self.load(application="\ufeff[web]\nport = 8099\n")
        self.assertEqual(config.web.port, 8099)

    def test_environment_variables_in_the_checkpoints_folder_must_be_set(self) -> None:
        config, _ = self.load(model_checkpoint="[storage]\nroot = $HOME/models\n")
        self.assertNotIn("$", config.storage.root)
        with self.assertRaisesRegex(ConfigError, r"\[storage\] root = '\$NO_SUCH_VARIABLE/models'"):
            self.load(model_checkpoint="[storage]\nroot = $NO_SUCH_VARIABLE/models\n")
