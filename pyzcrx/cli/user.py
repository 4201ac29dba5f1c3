"""``--user``: receive as an ordinary user, with a supervisor that stays root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pyzcrx.errors import BadArgument
from pyzcrx.privilege import User

if TYPE_CHECKING:
    ParamType = click.ParamType[User]
else:
    ParamType = click.ParamType  # not generic before click 8.2


class UserType(ParamType):
    """A user and group of this machine that are not root's."""

    name = "user"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> User:
        if isinstance(value, User):
            return value
        try:
            return User.parse(value)
        except BadArgument as error:
            self.fail(str(error), param, ctx)


user_option = click.option(
    "--user",
    type=UserType(),
    metavar="NAME[:GROUP]",
    help="Receive as that user, without any privilege; a supervisor stays root.",
)
