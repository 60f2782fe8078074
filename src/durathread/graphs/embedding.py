"""The embedding of the store's items, which is users' code."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from langchain_core.embeddings import Embeddings

from durathread.db.memory_store import StoreConfig
from durathread.graphs.indexing import store_config
from durathread.graphs.loops import GraphLoops
from durathread.graphs.registry import Graphs


def store_config_on(graphs: Graphs, loops: GraphLoops) -> StoreConfig:
    """Read how items are found and expire; what is embedded is where users' code runs."""
    config = store_config(graphs)
    if config.index is None:
        return config
    return replace(config, index=replace(config.index, embed=OnGraphsLoop(config.index.embed, loops)))


class OnGraphsLoop(Embeddings):
    """Embeds where users' code runs."""

    def __init__(self, inner: Embeddings, loops: GraphLoops) -> None:
        """Wrap what the user has written."""
        self._inner = inner
        self._loops = loops

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts in this thread.

        Raises:
            NotImplementedError: they are embedded by a coroutine, and this thread can wait for the graphs' loop.
        """
        if getattr(self._inner, "afunc", None) is None:
            return self._inner.embed_documents(texts)
        if not _has_loop():
            raise NotImplementedError
        # A node that has to be asynchronous to wait for this, and does not, may be holding up that very loop.
        with ThreadPoolExecutor(1) as apart:
            return apart.submit(lambda: asyncio.run(self._inner.aembed_documents(texts))).result()

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return self._inner.embed_query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts on the graphs' loop."""
        return await self._loops.run(lambda: self._inner.aembed_documents(texts))


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
