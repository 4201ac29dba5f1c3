"""Where ``zcrx-relay`` is told to connect."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from pyzcrx.cli.relay import main
from pyzcrx.cli.values import ADDRESS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("192.0.2.1:80", ("192.0.2.1", 80)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("example.org:8080", ("example.org", 8080)),
    ],
)
def test_addresses(text: str, value: tuple[str, int]) -> None:
    assert ADDRESS.convert(text, None, None) == value


@pytest.mark.parametrize(
    "text",
    ["", ":80", "host", "host:", "host:0", "host:65536", "host:x", "2001:db8::1:80", "[::1]"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(click.UsageError):
        ADDRESS.convert(text, None, None)


@pytest.mark.parametrize(
    "arguments",
    [[], ["192.0.2.1:80"], ["192.0.2.1:80", "--nodev", "-i", "lo"], ["192.0.2.1:80", "-q", "1"]],
)
def test_wrong_command_lines(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2
