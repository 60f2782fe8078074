"""What is to be served, looked at before anything is started: `durathread check`."""

import asyncio
import os
import sys

from durathread.config.settings import Settings
from durathread.errors import Error
from durathread.graphs.registry import Graphs

ERROR = "Error: "


def main(settings: Settings) -> None:
    """Import and build every graph as a worker does. Does not return: threads of users' may never end."""
    code = 0
    try:
        graphs = Graphs.load(settings.config)
        asyncio.run(graphs.check())
    except Error as error:
        sys.stderr.write(f"{ERROR}{error}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
