"""Server-sent events: how a client comes to watch a run or a thread."""
