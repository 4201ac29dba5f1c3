"""``--user``: receive as an ordinary user, with a supervisor that stays root."""

from __future__ import annotations

import click

from pyzcrx.cli.values import Text
from pyzcrx.errors import ZcrxError
from pyzcrx.privilege import User
from pyzcrx.supervisor import Worker, become_worker

user_option = click.option(
    "--user",
    type=Text("user", User.parse),
    metavar="NAME[:GROUP]",
    help="Receive as that user, without any privilege; a supervisor stays root.",
)


def worker_of(user: User | None, prepared: int | None, command: str) -> Worker | None:
    """This process as the worker of a supervisor that stays root; None where nobody is *user*.

    prepared: the interface that *command* sets up; the supervisor puts it back, as the worker
    will not be root any more.
    """

    def put_back(_pid: int) -> None:
        if prepared is None:
            return
        from pyzcrx.nic.restore import restore

        try:
            restore(prepared)
        except ZcrxError as error:
            click.echo(f"{command}: {error}", err=True)

    return None if user is None else become_worker(user, put_back=put_back)
