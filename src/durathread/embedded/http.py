"""Asks a server on this machine one question over HTTP: enough to see whether it is ready, and imported at no cost."""

import asyncio


async def get(port: int, path: str, *, host: str = "127.0.0.1", name: str | None = None) -> tuple[int, bytes]:
    """Send a GET, for a `name` if it is not the host's; return the status and the body. Status 0 when nobody answers."""
    try:
        async with asyncio.timeout(5):
            return await _get(port, path, host=host, name=name or f"{host}:{port}")
    except (OSError, ValueError, TimeoutError):
        return 0, b""


async def _get(port: int, path: str, *, host: str, name: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1] if head else 0), body
    finally:
        writer.close()
