"""Who is asking: only proxies that are trusted are believed."""

from __future__ import annotations

import ipaddress

import pytest
from litestar import Litestar
from litestar.testing import RequestFactory

from api.peers import UNIX, requester

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:ffff::/48")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "192.0.2.66, 198.51.100.1, 10.2.2.2", "198.51.100.1"),
        ("10.1.1.1", "", "10.1.1.1"),
        ("10.1.1.1", "unknown, 198.51.100.1, nonsense", "10.1.1.1"),
        ("::ffff:10.1.1.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        ("2001:db8:ffff::1", "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "198.51.100.1", "unknown"),
        ("10.1.1.1", "198.51.100.1:51234", "198.51.100.1"),
        ("10.1.1.1", "[2001:db8:1:2::9]:51234", "2001:db8:1:2::/64"),
        (None, "198.51.100.1", "unknown"),
        (UNIX, "192.0.2.66, 198.51.100.1, 10.2.2.2", "198.51.100.1"),
        (UNIX, "", "unknown"),
    ],
)
def test_the_last_one_that_nobody_trusted_vouches_for(peer: str | None, forwarded: str, found: str) -> None:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory(Litestar([], logging_config=None)).get("/", headers=headers)
    request.scope["client"] = (peer, 4711) if peer not in {None, UNIX} else None
    request.scope["server"] = ("/run/mirror.sock", None) if peer == UNIX else ("127.0.0.1", 8787)
    assert requester(request, PROXIES) == found
