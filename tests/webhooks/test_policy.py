"""Where webhooks may go, and what langgraph.json may say of them."""

import base64
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from durathread.api.app import create_app
from durathread.config.langgraph_json import parse
from durathread.config.settings import Settings
from durathread.errors import ConfigError, Invalid
from durathread.graphs.registry import Graphs
from durathread.records import JsonObject
from durathread.webhooks.policy import Dress, Rules, dress_of, require_domains, rules_of

DEFAULT = Rules()
LOOPBACK = Rules(disable_loopback=False)
PUBLIC_ONLY = Rules()
PRIVATE_TOO = Rules(disable_private_ips=False)

REFUSED_ALWAYS = [
    # No URLs, or not of ours.
    "",
    "hooks.example.com/x",
    "example.com",
    "http:",
    "http://",
    "http:///path",
    "https://:443/",
    "//hooks.example.com/x",
    "/\\hooks.example.com/x",
    "ftp://hooks.example.com/x",
    "file:///etc/passwd",
    "gopher://hooks.example.com/",
    "javascript:alert(1)",
    "ws://hooks.example.com/",
    "http://hooks.example.com:0/",
    "http://hooks.example.com:65536/",
    "http://hooks.example.com:port/",
    "http://hooks example.com/",
    "http://hooks.example.com/\r\nX-Injected: 1",
    "http://hooks.example.com\\@169.254.169.254/",
    "http://hooks.example.com%2e/",
    "http://[::1%25eth0]/",
    "http://[fe80::1%25eth0]/",
    "http://[::1/",
    "http://①②⑦.0.0.1/",
    "http://user:password@hooks.example.com/",
    "http://hooks.example.com@169.254.169.254/",
    # Addresses that no receiver has.
    "http://169.254.169.254/latest/meta-data",
    "http://169.254.169.254./",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://0177.0.0.1/",
    "http://169.254.43518/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://metadata.google.internal/",
    "http://METADATA.google.internal./",
    "http://0.0.0.0/",
    "http://0/",
    "http://[::]/",
    "http://0.1.2.3/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[ff02::1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[2001:0:53aa:64c::1]/",
    "http://[64:ff9b:1::1]/",
    "http://1.2.3.4.5/",
    "http://999.1.1.1/",
    "http://0x/1",
]
LOOPBACK_ONLY = [
    "http://127.0.0.1/",
    "http://127.0.0.1.:8000/",
    "http://127.8.8.8/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://127。0。0。1/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]:8000/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:db8::5efe:7f00:1]/",
    "http://localhost:8000/x",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://app.localhost/",
    "http://ip6-localhost/",
    "/hooks/mine",
    "/",
]
PRIVATE = [
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1:8080/x",
    "http://3232235777/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://[fc00::1]/",
    "http://[fd12:3456::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::a00:1]/",
]
PUBLIC = [
    "https://hooks.example.com/x?token=1#part",
    "http://hooks.example.com:8080/",
    "https://hooks.example.com./",
    "https://bücher.example/",
    "https://8.8.8.8/",
    "http://[2606:4700::1111]/",
    "http://[64:ff9b::808:808]/",
    "http://172.32.0.1/",
    "https://localhost.example.com/",
    "https://127.example.com/",
    "https://hooks.example.com/" + "x" * (2048 - 26),
]


@pytest.mark.parametrize("url", REFUSED_ALWAYS)
def test_a_webhook_that_leads_nowhere_or_to_secrets_is_refused_whatever_the_rules(url: str) -> None:
    for rules in (DEFAULT, LOOPBACK, PUBLIC_ONLY):
        with pytest.raises(Invalid, match=r"^webhook: "):
            rules.check(url)


@pytest.mark.parametrize("url", LOOPBACK_ONLY)
def test_a_webhook_to_this_machine_needs_the_operators_word(url: str) -> None:
    LOOPBACK.check(url)
    with pytest.raises(Invalid):
        DEFAULT.check(url)


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_unless_allowed(url: str) -> None:
    PRIVATE_TOO.check(url)
    with pytest.raises(Invalid, match="private"):
        DEFAULT.check(url)


def test_this_machine_is_refused_under_each_of_its_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing, but asks which of its addresses this machine would send from.
        try:
            probe.connect(("192.0.2.1", 9))
            own = probe.getsockname()[0]
        except OSError:
            own = "127.0.0.1"
    assert not PRIVATE_TOO.permits(ip_address(own))
    assert Rules(disable_private_ips=False, disable_loopback=False).permits(ip_address(own))


def test_secrets_need_the_domains_that_they_may_go_to() -> None:
    secrets: list[tuple[JsonObject, str]] = [({}, "s"), ({"secret": "s"}, ""), ({"headers": {"x-a": "b"}}, "")]
    for block, given in secrets:
        with pytest.raises(ConfigError, match="allowed_domains"):
            require_domains(parse({"webhooks": block}), secrets=given)
        with pytest.raises(ConfigError, match="allowed_domains"):
            create_app(Settings(webhook_secret=given), Graphs({}, parse({"webhooks": block}), Path()))
        require_domains(parse({"webhooks": {**block, "url": {"allowed_domains": ["*"]}}}), secrets=given)
        require_domains(parse({"webhooks": block, "http": {"disable_webhooks": True}}), secrets=given)
    require_domains(parse({}))
    rules_of(parse({"webhooks": {"url": {"allowed_domains": ["*"]}}})).check("https://any.example/")


def test_a_runs_own_secret_takes_the_place_of_the_servers() -> None:
    dress = Dress(secrets=(b"server",))
    own = dress.signature("id", 1, b"body", secret="tenant")["webhook-signature"]
    assert own == Dress(secrets=(b"tenant",)).signature("id", 1, b"body")["webhook-signature"]
    assert own != dress.signature("id", 1, b"body")["webhook-signature"]


@pytest.mark.parametrize("url", PUBLIC)
def test_any_other_webhook_is_allowed(url: str) -> None:
    PUBLIC_ONLY.check(url)


def test_a_webhook_has_an_end() -> None:
    with pytest.raises(Invalid, match="longer than 2048"):
        DEFAULT.check("https://hooks.example.com/" + "x" * (2049 - 26))
    with pytest.raises(Invalid, match="longer than 30"):
        Rules(max_url_length=30, disable_loopback=False).check("/" + "x" * 30)


def test_the_rules_of_langgraph_json_are_kept() -> None:
    rules = rules_of(
        parse(
            {
                "webhooks": {
                    "url": {"allowed_domains": ["Hooks.example.com", "*.example.org"], "allowed_ports": [443, 8443]}
                }
            }
        )
    )
    for url in ("https://hooks.example.com/", "https://a.example.org:8443/", "https://a.b.example.org./x"):
        rules.check(url)
    refused = {
        "http://hooks.example.com:443/": "https",
        "https://example.org/": "allowed domains",
        "https://evilexample.org/": "allowed domains",
        "https://hooks.example.com.evil.net/": "allowed domains",
        "https://8.8.8.8/": "allowed domains",
        "https://hooks.example.com:444/": "port 444",
    }
    for url, why in refused.items():
        with pytest.raises(Invalid, match=why):
            rules.check(url)


@pytest.mark.parametrize(
    ("config", "https_only", "disabled"),
    [
        ({}, False, False),
        ({"webhooks": {}}, False, False),
        ({"webhooks": {"headers": {}}}, False, False),
        ({"webhooks": {"url": {}}}, True, False),
        ({"webhooks": {"url": {"require_https": False}}}, False, False),
        ({"http": {"disable_webhooks": True}}, False, True),
    ],
)
def test_https_is_asked_for_where_there_are_rules_for_urls(config: Any, https_only: bool, disabled: bool) -> None:
    rules = rules_of(parse(config))
    assert (rules.require_https, rules.disabled) == (https_only, disabled)


def test_webhooks_can_be_disabled() -> None:
    with pytest.raises(Invalid, match="disabled"):
        rules_of(parse({"http": {"disable_webhooks": True}})).check("https://hooks.example.com/")


@pytest.mark.parametrize(
    "block",
    [
        [],
        {"url": []},
        {"url": {"require_https": "yes"}},
        {"url": {"allowed_domains": "example.com"}},
        {"url": {"allowed_ports": ["443"]}},
        {"url": {"allowed_ports": [True]}},
        {"url": {"max_url_length": 0}},
    ],
)
def test_rules_that_cannot_be_used_are_named_at_the_start(block: Any) -> None:
    with pytest.raises(ConfigError, match="webhooks"):
        rules_of(parse({"webhooks": block or [1]}))


def test_headers_and_secrets_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_WEBHOOK_A", "1")
    monkeypatch.setenv("LG_WEBHOOK_B", "2")
    monkeypatch.setenv("HOOK_C", "3")
    dress = dress_of(
        parse(
            {
                "webhooks": {
                    "headers": {"X-Both": "a ${{ env.LG_WEBHOOK_A }}-${{env.LG_WEBHOOK_B}}"},
                    "secret": "${{ env.LG_WEBHOOK_B }}",
                }
            }
        )
    )
    assert dress == Dress({"X-Both": "a 1-2"}, (b"2",), None)
    block = {"env_prefix": "HOOK_", "secret": ["${{ env.HOOK_C }}", "whsec_" + base64.b64encode(b"key").decode()]}
    assert dress_of(parse({"webhooks": block})).secrets == (b"3", b"key")
    assert dress_of(parse({"webhooks": block}), secrets="one two").secrets == (b"one", b"two")


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"headers": {"X": "${{ env.PATH }}"}}, "PATH does not begin with LG_WEBHOOK_"),
        ({"headers": {"X": "${{ env.LG_WEBHOOK_UNSET }}"}}, "LG_WEBHOOK_UNSET is not set"),
        ({"headers": {"X": "a\r\nY: b"}}, "cannot carry"),
        ({"headers": {"X Y": "a"}}, "cannot set 'X Y'"),
        ({"headers": {"Host": "a"}}, "cannot set 'Host'"),
        ({"headers": {"Webhook-Id": "a"}}, "cannot set 'Webhook-Id'"),
        ({"headers": {"X": 1}}, "must be a string"),
        ({"headers": ["X"]}, "must be an object"),
        ({"secret": "whsec_%%%"}, "base64"),
        ({"allowed_fields": "status"}, "must be a list"),
    ],
)
def test_what_goes_with_a_webhook_is_checked_at_the_start(block: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        dress_of(parse({"webhooks": block}))


def test_only_the_allowed_fields_are_sent() -> None:
    body = {"run_id": 1, "values": 2, "kwargs": {"input": 3}}
    assert dress_of(parse({"webhooks": {"allowed_fields": ["run_id", "values"]}})).fields(body) == {
        "run_id": 1,
        "values": 2,
    }
    assert dress_of(parse({})).fields(body) == body


def test_a_webhook_without_a_secret_has_an_id_and_no_signature() -> None:
    assert Dress().signature("id", 1, b"{}") == {"webhook-id": "id", "webhook-timestamp": "1"}
