"""Users' code: how graphs are imported, built, opened and read, and the event loop that they run on, apart from ours."""
