"""One step of a run: its first input, its supersteps, what an earlier attempt has left, and its trace."""
