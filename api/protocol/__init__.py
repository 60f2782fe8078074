"""The streaming protocol, version 2: commands in, frames out, over sockets and server-sent events."""
