"""Webhooks reach the addresses that were checked, and no others."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest

from durathread.errors import Invalid
from durathread.webhooks import posting
from durathread.webhooks.addresses import Address
from durathread.webhooks.policy import Rules
from durathread.webhooks.posting import Answer, Resolve, post
from tests.receiver import receiving

LOOPBACK = Rules(disable_loopback=False)


def names(**hosts: list[str]) -> Resolve:
    """Resolve names from a table: underscores stand for dots."""

    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [ip_address(text) for text in hosts[host.rstrip(".").replace(".", "_")]]

    return resolve


async def send(url: str, *, rules: Rules = LOOPBACK, resolve: Resolve = posting.resolve, **options: Any) -> Answer:
    """Post a small body."""
    given: dict[str, Any] = {"headers": {}, "private_headers": {}, "timeout": 5, **options}
    return await post(url, b"{}", rules=rules, resolve=resolve, **given)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["0.0.0.0"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["::ffff:169.254.169.254"],
        ["64:ff9b::a9fe:a9fe"],
        ["2002:7f00:1::"],
        ["fe80::1"],
        ["fd00:ec2::254"],
        ["100.100.100.200"],
        # One that is not allowed is enough, wherever it stands.
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
    ],
)
async def test_a_name_that_means_a_forbidden_address_is_refused_before_a_connection(addresses: list[str]) -> None:
    async with receiving() as receiver:
        with pytest.raises(Invalid, match="not allowed"):
            await send(
                f"http://hooks.example.com:{receiver.port}/",
                rules=Rules(),
                resolve=names(hooks_example_com=addresses),
            )
        assert receiver.received == []


async def test_a_private_address_behind_a_name_is_refused_if_the_rules_say_so() -> None:
    for rules in (Rules(disable_private_ips=True), Rules(disable_private_ips=True, disable_loopback=False)):
        with pytest.raises(Invalid, match="not allowed"):
            await send("http://hooks.example.com/", rules=rules, resolve=names(hooks_example_com=["10.0.0.1"]))


async def test_a_name_is_resolved_once_for_check_and_connection() -> None:
    """A name that means another machine a moment later changes nothing."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "169.254.169.254")]

    async with receiving() as receiver:
        answer = await send(f"http://hooks.example.com:{receiver.port}/x", resolve=rebinding)
        assert answer.status == 200
        assert asked == ["hooks.example.com"]
        assert receiver.received[0].headers["host"] == f"hooks.example.com:{receiver.port}"


async def test_every_redirect_is_resolved_and_checked_anew() -> None:
    async with receiving() as receiver:
        receiver.answers["/"] = [(307, {"location": f"http://inner.example.com:{receiver.port}/secret"})]
        table = names(hooks_example_com=["127.0.0.1"], inner_example_com=["169.254.169.254"])
        with pytest.raises(Invalid, match=r"inner\.example\.com"):
            await send(f"http://hooks.example.com:{receiver.port}/", resolve=table)
        assert [each.path for each in receiver.received] == ["/"]


async def test_the_rules_hold_for_redirects_too() -> None:
    async with receiving() as receiver:
        receiver.answers["/"] = [(307, {"location": f"http://other.example.net:{receiver.port}/"})]
        rules = Rules(disable_loopback=False, allowed_domains=("hooks.example.com",))
        table = names(hooks_example_com=["127.0.0.1"], other_example_net=["127.0.0.1"])
        with pytest.raises(Invalid, match="allowed domains"):
            await send(f"http://hooks.example.com:{receiver.port}/", rules=rules, resolve=table)


async def test_another_address_of_a_receiver_is_tried_when_one_does_not_answer() -> None:
    async with receiving() as receiver:
        table = names(hooks_example_com=["127.0.0.2", "127.0.0.1"])
        assert (await send(f"http://hooks.example.com:{receiver.port}/", resolve=table)).status == 200


@pytest.mark.parametrize("form", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "127.0.0.1."])
async def test_an_address_is_reached_however_it_is_written(form: str) -> None:
    async with receiving() as receiver:
        assert (await send(f"http://{form}:{receiver.port}/")).status == 200
        with pytest.raises(Invalid):
            await send(f"http://{form}:{receiver.port}/", rules=Rules())


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver, receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await send(receiver.url("/"))).status == 200
        assert proxy.received == []


async def test_a_body_without_end_is_not_read() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        began = time.monotonic()
        assert (await send(f"http://127.0.0.1:{port}/", timeout=20)).status == 200
        assert time.monotonic() - began < 20


async def test_a_receiver_that_says_nothing_is_left() -> None:
    async with receiving() as receiver:
        receiver.answers["/"] = [None]
        with pytest.raises(TimeoutError):
            await send(receiver.url("/"), timeout=0.2)


async def test_a_trusted_address_needs_no_check_but_where_it_redirects_to_does() -> None:
    async with receiving() as receiver:
        url = receiver.url("/here")
        assert (await send(url, rules=Rules(), trusted=url)).status == 200
        receiver.answers["/here"] = [(307, {"location": "/there"})]
        with pytest.raises(Invalid, match="loopback"):
            await send(url, rules=Rules(), trusted=url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `hooks.example.com`, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=hooks.example.com", "-addext", "subjectAltName=DNS:hooks.example.com"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def test_the_certificate_must_be_that_of_the_name_although_the_address_is_dialled(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=str(cert))
    monkeypatch.setattr(posting, "_tls", lambda: trusting)
    table = names(hooks_example_com=["127.0.0.1"], other_example_com=["127.0.0.1"])
    async with receiving(ssl_certfile=str(cert), ssl_keyfile=str(key)) as receiver:
        assert (await send(f"https://hooks.example.com:{receiver.port}/", resolve=table)).status == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await send(f"https://other.example.com:{receiver.port}/", resolve=table)
        assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("0", 0), ("soon", None), ("-1", None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)]
)
async def test_a_receiver_says_when_to_come_back(header: str, seconds: float | None) -> None:
    async with receiving() as receiver:
        receiver.answers["/"] = [(503, {"retry-after": header})]
        answer = await send(receiver.url("/"))
        wait = answer.retry_after if answer.retry_after is None or answer.retry_after >= 0 else None
        assert (answer.status, wait) == (503, seconds)
