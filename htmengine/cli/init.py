# SPDX-License-Identifier: MIT
"""``htmengine init``: a new deployment's configuration, its database and its users, and what to run next."""

from __future__ import annotations

import os
import pwd
import secrets
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from htmengine.cli.common import example, failing_cleanly, run_reactor
from htmengine.client import reach
from htmengine.config import FILES
from htmengine.config_files import Values, conf
from htmengine.deployment import Deployment
from htmengine.errors import HtmEngineError
from htmengine.process.twisted_types import Reactor
from htmengine.repository import new_database

#: What ``rabbitmqctl`` runs on the broker's host; a user who is there must have the same password.
_BROKER = """#!/bin/sh
# The broker's user, who may do everything with the queues of its virtual host.
set -e
rabbitmqctl add_user {name} {password} || rabbitmqctl authenticate_user {name} {password}
rabbitmqctl set_permissions --vhost / {name} '.*' '.*' '.*'
"""


#: As whom systemd's units run (conf/systemd/htmengine.sysusers).
UNITS_USER = "htmengine"


@dataclass(frozen=True, slots=True)
class Plan:
    """A distributed deployment that is to be."""

    folder: Path
    kind: str  #: of the database server
    name: str  #: of the database, of its user, and of the broker's
    database_host: str
    database_port: int
    broker_host: str
    broker_port: int
    database_password: str
    broker_password: str

    @property
    def database_url(self) -> str:
        """With the password."""
        return new_database.url(self.kind, self.database_host, self.database_port, self.name, self.database_password)

    @property
    def statements(self) -> list[str]:
        """Make the database and its user."""
        return new_database.statements(self.kind, self.name, self.database_password)

    @property
    def values(self) -> Values:
        """Options that are not at their defaults."""
        return {
            ("repository", "url"): self.database_url,
            ("connection", "host"): self.broker_host,
            ("connection", "port"): self.broker_port,
            ("credentials", "user"): self.name,
            ("credentials", "password"): self.broker_password,
        }

    def files(self) -> dict[str, str]:
        """The text of each file of the folder, by its name."""
        texts = {f"{file}.conf": conf(file, self.values) for file in FILES}
        texts["database.sql"] = "".join(f"{statement};\n" for statement in self.statements)
        texts["broker.sh"] = _BROKER.format(name=self.name, password=self.broker_password)
        return texts

    def next_steps(self, *, database_made: bool) -> Iterator[str]:
        """Commands, in their order."""
        sql, host = shlex.quote(str(self.folder / "database.sql")), shlex.quote(self.database_host)
        if not database_made:
            client = "mysql --user root --password" if self.kind == "mysql" else "psql --username postgres"
            yield f"{client} --host {host} --port {self.database_port} < {sql}"
        yield f"sh {shlex.quote(str(self.folder / 'broker.sh'))}    # on the broker's host"
        yield f"export APPLICATION_CONFIG_PATH={shlex.quote(str(self.folder))}"
        yield "htmengine db upgrade"
        yield from (f"twistd -n htmengine-{tap}" for tap in ("listener", "storer", "scheduler", "anomaly", "web"))
        yield "htmengine doctor"


@click.command(epilog=example("htmengine init /etc/htmengine --distributed --database postgresql"))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--distributed", is_flag=True, help="Services on RabbitMQ and a database server; else one embedded engine."
)
@click.option("--database", "kind", type=click.Choice(list(new_database.PORTS)), default="mysql", show_default=True)
@click.option("--database-host", default="localhost", show_default=True)
@click.option("--database-port", type=click.IntRange(1, 65_535), show_default="the server's usual one")
@click.option("--broker-host", default="localhost", show_default=True)
@click.option("--broker-port", type=click.IntRange(1, 65_535), default=5672, show_default=True)
@click.option("--name", default="htmengine", show_default=True, help="Of the database, and of both users.")
@click.option(
    "--admin-url",
    envvar="HTMENGINE_ADMIN_URL",
    help="SQLAlchemy URL of an administrator of the database server, to make database and user at once.",
)
@click.pass_context
@failing_cleanly
def init(
    context: click.Context,
    folder: Path,
    distributed: bool,
    kind: str,
    database_host: str,
    database_port: int | None,
    broker_host: str,
    broker_port: int,
    name: str,
    admin_url: str | None,
) -> None:
    """Write the configuration of a new deployment to DIR, try its connections, and say what to run next.

    Of a distributed one, DIR gets the statements that make the database and the users, too, with passwords made by
    chance.  Only its user can read the files.  None that exists is overwritten.
    """
    folder = folder.absolute()
    if not distributed:
        _refuse_server_options(context)
        _write(folder, {f"{file}.conf": conf(file, _EMBEDDED) for file in FILES if file != "rabbitmq"})
        _tell_next([*_for_the_units(folder), f"htmengine run --config {shlex.quote(str(folder))}"])
        return
    port = database_port or new_database.PORTS[kind]
    passwords = secrets.token_hex(16), secrets.token_hex(16)
    if admin_url is not None:
        new_database.check_administrator(kind, admin_url)
    plan = Plan(folder, kind, name, database_host, port, broker_host, broker_port, *passwords)
    _write(folder, plan.files())
    made = admin_url is not None and _try("making the database", partial(new_database.run, admin_url, plan.statements))
    deployment = Deployment.distributed(folder)
    reached = _try("database", partial(new_database.reach, deployment.database_url))
    if made and not reached:
        click.echo(f"  was the user {name} there before? Then the password in application.conf is not the user's")
    _try("broker", partial(run_reactor, partial(_reach_broker, deployment)))
    _tell_next([*_for_the_units(folder), *plan.next_steps(database_made=made)])


#: An embedded engine gives new metrics a model.
_EMBEDDED: Values = {("metric_storer", "auto_monitor"): True}


def _refuse_server_options(context: click.Context) -> None:
    """An embedded engine has neither database server nor broker."""
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name not in ("folder", "distributed")
        and context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: only with --distributed")


def _write(folder: Path, files: dict[str, str]) -> None:
    """All or none of them.  Raises `HtmEngineError` if one exists."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in files:
        if (folder / name).exists():
            raise HtmEngineError(f"{folder / name} exists: name another folder, or remove the file")
    for name, text in files.items():
        with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    click.echo(f"{folder}: {', '.join(files)}")


def _try(what: str, do: Callable[[], None]) -> bool:
    """Do it and print how it went."""
    try:
        do()
    except HtmEngineError as error:
        click.echo(f"{what}: not yet: {error}")
        return False
    click.echo(f"{what}: ok")
    return True


async def _reach_broker(deployment: Deployment, reactor: Reactor) -> None:
    bus = deployment.bus(reactor)
    bus.startService()
    try:
        await reach(bus, deployment.config.metric_listener.queue_name, reactor)
    finally:
        await bus.stopService()


def _for_the_units(folder: Path) -> Iterator[str]:
    """What root runs where the units' user is: only the owner can read the files."""
    if os.geteuid() == 0 and any(each.pw_name == UNITS_USER for each in pwd.getpwall()):
        where = shlex.quote(str(folder))
        yield f"chgrp -R {UNITS_USER} {where} && chmod -R g=rX {where}    # if the units of systemd run it"


def _tell_next(steps: Sequence[str]) -> None:
    click.echo("Next:")
    for step in steps:
        click.echo(f"  {step}")
