"""An address names a board in one way, and what is none is refused before a command line is made of it."""

from __future__ import annotations

import pytest

from slimdeploy.devices.address import Address, parse_address
from slimdeploy.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "user", "port", "root"),
    [
        pytest.param("ssh://drone", "drone", "", None, "slimdeploy", id="a name alone"),
        pytest.param("ssh://pilot@10.0.0.5:2222/data/flight", "10.0.0.5", "pilot", 2222, "/data/flight", id="all"),
        pytest.param("ssh://drone/~/flight", "drone", "", None, "~/flight", id="below the home"),
        pytest.param("ssh://pilot@[fe80::1%eth0]:22/", "fe80::1%eth0", "pilot", 22, "slimdeploy", id="IPv6"),
        pytest.param("local:/data/flight", "", "", None, "/data/flight", id="this machine"),
    ],
)
def test_an_address_says_host_user_port_and_folder(text, host, user, port, root):
    assert parse_address(text) == Address(text=text, host=host, user=user, port=port, root=root)


@pytest.mark.parametrize(
    "text",
    ["", "drone", "http://drone", "ssh://", "ssh://-oProxyCommand=touch", "ssh://-l@drone", "ssh://drone:0",
     "ssh://drone:99999", "ssh://drone:x", "ssh://a b", "ssh://drone/a\nb", "local:", "local:/", "local:flight",
     "ssh://h:\u0663", "ssh://h:\u00b2", "local:/r\n[Service]\nExecStartPre=/bin/x", "local:/r\0", "local:/r\u2028x",
     "local:/r\x1b[2J", "ssh://drone/a\u202eb", "ssh://dr\u00f6ne", "local:/" + 2000 * "x", "ssh://drone/\x7f"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="the address"):
        parse_address(text)
