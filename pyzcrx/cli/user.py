"""``--user``: receive as an ordinary user, with a supervisor that stays root."""

from __future__ import annotations

import click

from pyzcrx.cli.values import Text
from pyzcrx.privilege import User

user_option = click.option(
    "--user",
    type=Text("user", User.parse),
    metavar="NAME[:GROUP]",
    help="Receive as that user, without any privilege; a supervisor stays root.",
)
