# SPDX-License-Identifier: MIT
"""``htmengine init``: what it writes, and what it never does."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from htmengine.cli.init import Plan
from htmengine.cli.main import main
from htmengine.config import Config, load
from htmengine.deployment import Deployment

PASSWORDS = ("0123abcd", "4567cdef")


class PlanTest(SynchronousTestCase):
    def plan(self, kind: str = "postgresql", name: str = "htm") -> Plan:
        return Plan(Path("/etc/my engine"), kind, name, "db1", 5433, "mq1", 5673, *PASSWORDS)

    def test_the_configuration_reaches_the_servers_by_the_new_users(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, text in self.plan().files().items():
            (folder / name).write_text(text)
        deployment = Deployment.find(folder, None)
        self.assertIsNone(deployment.folder)  # a distributed one
        self.assertEqual(deployment.database_url, "postgresql+psycopg://htm:0123abcd@db1:5433/htm")
        config = deployment.config
        self.assertEqual((config.connection.host, config.connection.port), ("mq1", 5673))
        self.assertEqual((config.credentials.user, config.credentials.password), ("htm", "4567cdef"))
        self.assertIn("rabbitmqctl add_user htm 4567cdef ||", (folder / "broker.sh").read_text())
        self.assertIn("CREATE ROLE \"htm\" LOGIN PASSWORD '0123abcd';\n", (folder / "database.sql").read_text())

    def test_what_is_printed_has_no_password_and_is_for_a_shell(self) -> None:
        steps = list(self.plan().next_steps(database_made=False))
        self.assertEqual(steps[0], "psql --username postgres --host db1 --port 5433 < '/etc/my engine/database.sql'")
        self.assertEqual(steps[-1], "htmengine doctor")
        self.assertEqual(steps[1:], list(self.plan().next_steps(database_made=True)))
        for password in PASSWORDS:
            self.assertNotIn(password, "".join(steps))


class InitTest(SynchronousTestCase):
    def init(self, *words: object) -> Result:
        return CliRunner().invoke(main, ["init", *map(str, words)])

    def test_an_embedded_engine_has_a_commented_configuration_for_its_user_alone(self) -> None:
        folder = Path(self.mktemp()).absolute()
        done = self.init(folder)
        self.assertEqual((done.exit_code, done.output.splitlines()[-1]), (0, f"  htmengine run --config {folder}"))
        self.assertEqual(load(folder, {}).metric_listener, Config().metric_listener)
        self.assertTrue(load(folder, {}).metric_storer.auto_monitor)
        self.assertIsNotNone(Deployment.find(folder, None).folder)
        self.assertIn("# Graphite port, TCP and UDP; 0: any free one\n", (folder / "application.conf").read_text())
        self.assertEqual({stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}, {0o600})

    def test_root_is_told_to_give_the_files_to_the_user_of_the_units(self) -> None:
        users = [pwd.getpwuid(0)]
        self.patch(pwd, "getpwall", lambda: users)
        self.patch(os, "geteuid", lambda: 0)
        self.assertNotIn("chgrp", self.init(Path(self.mktemp())).output)
        users.append(pwd.struct_passwd(("htmengine", "x", 990, 990, "", "/var/lib/htmengine", "/usr/sbin/nologin")))
        folder = Path(self.mktemp()).absolute()
        self.assertIn(f"  chgrp -R htmengine {folder} && chmod -R g=rX {folder}  ", self.init(folder).output)

    def test_no_file_is_overwritten(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "model-swapper.conf").write_text("mine")
        done = self.init(folder)
        self.assertEqual(done.exit_code, 1)
        self.assertIn(f"{folder}/model-swapper.conf exists", done.output)
        self.assertEqual([path.read_text() for path in folder.iterdir()], ["mine"])

    def test_options_of_servers_are_refused_for_an_embedded_engine(self) -> None:
        folder = Path(self.mktemp())
        done = self.init(folder, "--database=postgresql", "--broker-host=mq1")
        self.assertIn("--database, --broker-host: only with --distributed", done.output)
        self.assertEqual((done.exit_code, folder.exists()), (2, False))

    def test_an_administrator_of_another_server_is_refused_before_anything_is_written(self) -> None:
        for url in ("sqlite:///x", "postgresql://root@db1", "nonsense", ""):
            folder = Path(self.mktemp())
            done = self.init(folder, "--distributed", f"--admin-url={url}")
            self.assertIn("--admin-url: a URL such as mysql://user:password@host is allowed", done.output)
            self.assertEqual((done.exit_code, folder.exists()), (1, False))

    def test_a_folder_that_cannot_be_made_is_named_in_words(self) -> None:
        done = self.init("/proc/engine")
        self.assertEqual((done.exit_code, done.output), (1, "Error: /proc/engine: No such file or directory\n"))

    def test_the_brokers_user_may_be_there(self) -> None:
        folder, commands = Path(self.mktemp()), Path(self.mktemp()).absolute()
        self.init(folder, "--distributed", "--database-port=1", "--broker-port=1")
        commands.mkdir()
        (commands / "rabbitmqctl").write_text(f'#!/bin/sh\necho $1 >> {commands}/run\ntest "$1" != add_user\n')
        (commands / "rabbitmqctl").chmod(0o755)
        environment = {"PATH": f"{commands}:/usr/bin:/bin"}
        subprocess.run(["/bin/sh", folder / "broker.sh"], env=environment, check=True)
        self.assertEqual((commands / "run").read_text().split(), ["add_user", "authenticate_user", "set_permissions"])

    def test_names_that_would_need_quoting_are_refused_before_anything_is_written(self) -> None:
        for name in ("a'b", "-a", "", "a b", "a" * 33):
            folder = Path(self.mktemp())
            done = self.init(folder, "--distributed", f"--name={name}")
            self.assertEqual(done.exit_code, 1)
            self.assertIn("up to 32 of A-Z a-z 0-9 _ - are allowed", done.output)
            self.assertFalse(folder.exists())
