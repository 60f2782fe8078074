"""Asks a server on this machine one question over HTTP: enough to see whether it is ready, and imported at no cost."""

import asyncio


async def get(port: int, path: str, *, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Send a GET; return the status and the body. Status 0 when nobody answers."""
    try:
        async with asyncio.timeout(5):
            return await _get(port, path, host=host)
    except (OSError, ValueError, TimeoutError):
        return 0, b""


async def _get(port: int, path: str, *, host: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1] if head else 0), body
    finally:
        writer.close()
