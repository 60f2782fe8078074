"""Which addresses are this machine's."""

from ipaddress import ip_address

import pytest

from durathread.webhooks.addresses import is_own, leads_here


@pytest.mark.parametrize(
    ("text", "own"), [("127.0.0.1", True), ("127.1.2.3", True), ("192.0.2.7", False), ("2001:db8::7", False)]
)
def test_what_can_be_listened_on_is_own(text: str, own: bool) -> None:
    assert is_own(ip_address(text)) == own


@pytest.mark.parametrize(("text", "here"), [("127.0.0.1", True), ("192.0.2.7", False), ("255.255.255.255", False)])
def test_where_all_can_be_listened_on_the_route_says_what_is_own(text: str, here: bool) -> None:
    assert leads_here(ip_address(text)) == here
