"""Finds ports to listen on."""

import random
import socket

# Below every system's range for outgoing connections: a client that keeps reconnecting to a port in that range
# while nobody listens there can connect to itself, and then the port is taken.
CANDIDATES = range(15_000, 32_000)


def is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Say whether a server could listen on a port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """Pick a free port: the preferred one, if it is."""
    if preferred and is_free(preferred):
        return preferred
    while not is_free(port := random.choice(CANDIDATES)):
        pass
    return port
