"""What kind of network an address belongs to, however it is written or wrapped."""

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

Address = IPv4Address | IPv6Address
Kind = Literal["public", "private", "loopback", "forbidden"]

# What cloud machines ask for their credentials, besides the link-local addresses.
METADATA = {
    ip_address(text)
    for text in (
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
    )
}
METADATA_NAMES = ("metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal")
LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback")
THIS_NETWORK = ip_network("0.0.0.0/8")
# IPv6 with an IPv4 address in its last 32 bits: NAT64, the obsolete form without a prefix, and an interface of ISATAP.
NAT64 = ip_network("64:ff9b::/96")
COMPATIBLE = ip_network("::/96")
ISATAP = (0x00005EFE, 0x02005EFE)
# Translations and tunnels of which nobody can say where they end.
TUNNELS = (ip_network("64:ff9b:1::/48"), ip_network("2001::/32"))
# Of documentation: nobody's. Who can listen on these can listen on any (Linux: `ip_nonlocal_bind`).
FOREIGN: dict[int, Address] = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}

NUMBER = r"(0[xX][0-9a-fA-F]*|[0-9]+)"
NUMERIC = re.compile(rf"{NUMBER}(\.{NUMBER})*")
BADNESS: dict[Kind, int] = {"public": 0, "private": 1, "loopback": 2, "forbidden": 3}


def literal(host: str) -> Address | None:
    """Read a host that is an address; None if it is a name. `0x7f.1`, `2130706433` and `017700000001` are addresses.

    Raises:
        ValueError: it is numeric, but no address.
    """
    host = host.rstrip(".")
    try:
        return ip_address(host)
    except ValueError:
        if not NUMERIC.fullmatch(host):
            return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        raise ValueError(f"'{host}' is not an address") from None


def kind_of_host(host: str) -> Kind:
    """Say what can be said of a host before it is resolved.

    Raises:
        ValueError: it is numeric, but no address.
    """
    address = literal(host)
    if address is not None:
        return kind_of(address)
    name = host.rstrip(".").lower()
    if name in LOOPBACK_NAMES or name.endswith(".localhost"):
        return "loopback"
    return "forbidden" if name in METADATA_NAMES else "public"


def kind_of(address: Address) -> Kind:
    """Say what kind of network an address belongs to: the worst that it can be read as."""
    if isinstance(address, IPv4Address):
        return _kind_of_v4(address)
    wrapped = list(_wrapped(address))
    kinds: list[Kind] = [_kind_of_v4(inner) for inner in wrapped] or [_kind_of_v6(address)]
    if (int(address) >> 32) & 0xFFFFFFFF in ISATAP:
        kinds.append(_kind_of_v4(IPv4Address(int(address) & 0xFFFFFFFF)))
    return max(kinds, key=lambda kind: BADNESS[kind])


def is_own(address: Address) -> bool:
    """Say whether an address is one of this machine's: no other can be listened on, unless the machine allows it for all."""
    foreign = FOREIGN[address.version]
    return _can_listen(address) and (not _can_listen(foreign) or leads_here(address))


def leads_here(address: Address) -> bool:
    """Say whether what is sent to an address comes from it, too: nothing is sent to find out.

    It does not know a second address of an interface, whose packets to itself come from the first.
    """
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False


def _can_listen(address: Address) -> bool:
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6


def _wrapped(address: IPv6Address) -> Iterable[IPv4Address]:
    """List the IPv4 addresses that an IPv6 address is only another form of."""
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address in NAT64 or (address in COMPATIBLE and int(address) > 1):
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def _kind_of_v4(address: IPv4Address) -> Kind:
    reserved = address.is_reserved or address.is_multicast or address in THIS_NETWORK
    if reserved or address.is_link_local or address in METADATA:
        return "forbidden"
    if address.is_loopback:
        return "loopback"
    return "public" if address.is_global else "private"


def _kind_of_v6(address: IPv6Address) -> Kind:
    if address.is_loopback:
        return "loopback"
    local = address.is_link_local or address.is_site_local or address.scope_id is not None
    unusable = address.is_multicast or address.is_unspecified or address.is_reserved
    if local or unusable or address in METADATA or any(address in tunnel for tunnel in TUNNELS):
        return "forbidden"
    return "public" if address.is_global else "private"
