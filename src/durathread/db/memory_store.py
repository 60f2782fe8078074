"""LangGraph's store on Postgres, usable from any event loop."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal, LiteralString, TypeAlias, cast

import psycopg
from langchain_core.embeddings import Embeddings
from langgraph.store.base import (
    BaseStore,
    Item,
    Op,
    PutOp,
    Result,
    SearchOp,
    TTLConfig,
    get_text_at_path,
    tokenize_path,
)
from langgraph.store.postgres import AsyncPostgresStore, PostgresStore
from langgraph.store.postgres.base import PostgresIndexConfig
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from durathread import encryption
from durathread.db.exclusive import exclusive
from durathread.db.marked import marked, unmarked
from durathread.db.pool import Connection, Pool, is_outage
from durathread.db.sealed import sealed
from durathread.encode import dumps
from durathread.errors import ConfigError, Invalid, Unavailable
from durathread.inprocess.calls import run_at_work
from durathread.records import JsonObject

OPERATORS = {"$eq": "=", "$ne": "!=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
DIMENSIONS = (
    "SELECT atttypmod AS dims FROM pg_attribute WHERE attrelid = 'store_vectors'::regclass AND attname = 'embedding'"
)
WHOLE: Literal["$"] = "$"
Vectors: TypeAlias = Mapping[str, list[float]]

# Not a client's operator: what the caller of a search may see contains one of the documents.
ONLY = "$only"
CONTAINS_ONE: LiteralString = "coalesce(store.durathread_stamp, store.value) @> ANY(%s::jsonb[])"
# What is not there is equal to null.
EQUALITY: LiteralString = "coalesce(store.value #> {path}, 'null') {operator} {wanted}::jsonb"
# JSON compares numbers as numbers and strings as strings; what is of another type is neither less nor more.
ORDER: LiteralString = """
(jsonb_typeof(store.value #> {path}) = jsonb_typeof({wanted}::jsonb) AND store.value #> {path} {operator} {wanted}::jsonb)
"""

# What a graph puts belongs to whose thread it works on.
MARK_OF_RUN = """
UPDATE store s SET durathread_holder = t.holder
FROM run r JOIN thread t USING (thread_id), unnest(%s::text[], %s::text[]) AS i (prefix, key)
WHERE r.run_id = %s AND t.holder IS NOT NULL AND s.prefix = i.prefix AND s.key = i.key
  AND s.durathread_holder IS DISTINCT FROM t.holder
"""


def _expiring() -> TTLConfig:
    return {"omit_expired": True, "sweep_interval_minutes": 5}


@dataclass(frozen=True)
class Index:
    """How items are found by what they mean."""

    dims: int
    embed: Embeddings
    options: JsonObject = field(default_factory=dict[str, Any])

    @property
    def config(self) -> PostgresIndexConfig:
        """As LangGraph takes it."""
        return cast(PostgresIndexConfig, {**self.options, "dims": self.dims, "embed": self.embed})


@dataclass(frozen=True)
class StoreConfig:
    """How items are found, and when they expire."""

    index: Index | None = None
    ttl: TTLConfig = field(default_factory=_expiring)


class Prepared(Embeddings):
    """Gives out vectors that were made before; what was not is made now."""

    def __init__(self, inner: Embeddings) -> None:
        """Wrap what makes them."""
        self._inner = inner
        self._ready: ContextVar[Mapping[str, list[float]]] = ContextVar("ready")

    def here(self, texts: Collection[str]) -> Vectors | None:
        """Make the vectors of texts in this thread, which waits for them; None if that is done by `prepare` alone."""
        wanted = list(dict.fromkeys(texts))
        try:
            return dict(zip(wanted, self._inner.embed_documents(wanted) if wanted else [], strict=True))
        except NotImplementedError:
            return None

    async def prepare(self, texts: Collection[str], *, known: Vectors | None = None) -> None:
        """Make the vectors of texts that are not known or made already, for whoever asks in this task."""
        ready = {**self._ready.get({}), **(known or {})}
        wanted = [text for text in dict.fromkeys(texts) if text not in ready]
        made = await self._inner.aembed_documents(wanted) if wanted else []
        ready |= dict(zip(wanted, made, strict=True))
        self._ready.set({text: ready[text] for text in texts})

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts."""
        ready = self._ready.get({})
        if all(text in ready for text in texts):
            return [ready[text] for text in texts]
        return await self._inner.aembed_documents(texts)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts."""
        return self._inner.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return self._inner.embed_query(text)


class _Sealing(AsyncPostgresStore):
    """LangGraph's store, whose values are encrypted if there is a key."""

    counting = False

    def _prepare_batch_PUT_queries(
        self, put_ops: Sequence[tuple[int, PutOp]]
    ) -> tuple[list[tuple[str, Sequence[Any]]], tuple[str, Sequence[tuple[str, str, str, str]]] | None]:
        """Seal the values where they become parameters: texts to embed have been taken from them by then.

        And say whose they are, if a run puts them and that is counted.
        """
        queries, embeddings = super()._prepare_batch_PUT_queries(put_ops)
        made = [(query, [sealed(p.obj) if isinstance(p, Jsonb) else p for p in params]) for query, params in queries]
        if self.counting and (run_id := run_at_work()):
            names = [(".".join(op.namespace), op.key) for _, op in put_ops]
            made.append((MARK_OF_RUN, [[prefix for prefix, _ in names], [key for _, key in names], run_id]))
        return cast(Any, made), embeddings


class Items(_Sealing):
    """LangGraph's store, with filters and values that mean what they mean in its store in memory.

    It embeds before it takes a connection: an embedding is users' code, or somebody else's service.
    """

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations.

        Raises:
            Invalid: they search what is encrypted.
        """
        asked = [_stored(op) for op in ops]
        if encryption.is_on() and any(isinstance(op, SearchOp) and _looks_into_values(op) for op in asked):
            raise Invalid(
                "What values hold cannot be searched: they are encrypted. Search by namespace, or by meaning."
            )
        await self.prepare(asked)
        return [_read(result) for result in await super().abatch(asked)]

    async def prepare(self, ops: Sequence[Op], *, known: Vectors | None = None) -> None:
        """Embed what operations will need embedded, unless it is known."""
        if isinstance(self.embeddings, Prepared):
            await self.embeddings.prepare(self._embedded_by(ops), known=known)

    def embed_here(self, ops: Sequence[Op]) -> Vectors | None:
        """Embed the same in this thread; None if that is left to `prepare`."""
        return self.embeddings.here(self._embedded_by(ops)) if isinstance(self.embeddings, Prepared) else None

    def _embedded_by(self, ops: Sequence[Op]) -> list[str]:
        return list(_texts(map(_stored, ops), fields=(self.index_config or {}).get("fields")))

    async def put_on(self, conn: Connection, op: PutOp) -> None:
        """Put an item, whose texts have been prepared, within the transaction of a connection."""
        bound = _Sealing(cast(Any, conn), index=cast(Any, self.index_config), ttl=self.ttl_config)
        await bound.abatch([_stored(op)])

    def _get_filter_condition(self, key: str, op: str, value: Any) -> tuple[str, list[Any]]:
        """Compare numbers as numbers, not as text, and look into objects."""
        if op == ONLY:
            return CONTAINS_ONE, [[dumps(document).decode() for document in value]]
        return condition((key,), op, value)


def _stored(op: Op) -> Op:
    if isinstance(op, PutOp) and op.value is not None:
        return op._replace(value=marked(op.value))
    return op


def _read(result: Result) -> Result:
    for item in result if isinstance(result, list) else [result]:
        if isinstance(item, Item):
            item.value = unmarked(item.value)
    return result


def _texts(ops: Iterable[Op], *, fields: Sequence[str] | None) -> Iterator[str]:
    """List what the store is going to embed: queries, and the fields of items that are found by what they mean."""
    for op in ops:
        if isinstance(op, SearchOp) and op.query:
            yield op.query
        if isinstance(op, PutOp) and op.value is not None and op.index is not False:
            for path in (fields or [WHOLE]) if op.index is None else op.index:
                # As LangGraph has it: the whole is a path of the configuration, and none of an item's.
                whole = op.index is None and path == WHOLE
                yield from get_text_at_path(op.value, WHOLE if whole else tokenize_path(path))


def _looks_into_values(op: SearchOp) -> bool:
    """Whether a search compares more than whose the items are."""
    asked = dict(op.filter or {})
    whose = asked.pop("", {})
    return bool(asked) or bool(set(whose) - {ONLY})


def condition(path: tuple[str, ...], op: str, value: Any) -> tuple[str, list[Any]]:
    """Write the SQL of one condition of a filter: an operator on what is at a path, or what a key of the object is.

    Raises:
        ValueError: there is no such operator.
    """
    if not op.startswith("$"):
        inner = value if isinstance(value, dict) else {"$eq": value}
        parts = [condition((*path, op), key, item) for key, item in cast(dict[str, Any], inner).items()]
        return " AND ".join(text for text, _ in parts) or "TRUE", [param for _, params in parts for param in params]
    if op not in OPERATORS:
        raise ValueError(f"Unsupported operator: {op}")
    wanted = dumps(value).decode()
    form = EQUALITY if op in ("$eq", "$ne") else ORDER
    text = form.format(path="%s::text[]", operator=OPERATORS[op], wanted="%s")
    keys = list(path)
    return text, [keys, wanted] if form is EQUALITY else [keys, wanted, keys, wanted]


class LoopStore(BaseStore):
    """Carries out operations on the loop that it was built on, whichever loop or thread asks."""

    supports_ttl = True

    def __init__(self, inner: Items, *, at_once: int) -> None:
        """Wrap a store of the running event loop, which carries out so many requests at once.

        The rest of the pool is left to who writes checkpoints.
        """
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(at_once)
        self.ttl_config = inner.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations, and block this thread until they are done.

        Texts are embedded here: this may be the thread of the loop that embeds for others.
        """
        asked = list(ops)
        known = self._inner.embed_here(asked)
        return asyncio.run_coroutine_threadsafe(self._in_turn(asked, known), self._loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations."""
        if asyncio.get_running_loop() is self._loop:
            return await self._in_turn(list(ops))
        future = asyncio.run_coroutine_threadsafe(self._in_turn(list(ops)), self._loop)
        return await asyncio.wrap_future(future)

    async def _in_turn(self, ops: list[Op], known: Vectors | None = None) -> list[Result]:
        # Nobody's turn waits for somebody else's service.
        await self._inner.prepare(ops, known=known)
        async with self._turns:
            try:
                return await self._inner.abatch(ops)
            except (psycopg.Error, PoolTimeout) as error:
                # Nobody's code has failed: what waits for this is repeated.
                if is_outage(error):
                    raise Unavailable("The database is unavailable.") from error
                raise


@asynccontextmanager
async def open_store(pool: Pool, config: StoreConfig, *, counting: bool = False) -> AsyncGenerator[Items]:
    """Open the Postgres store on the pool of the process; `counting` is what it is for the pool.

    Raises:
        ConfigError: the database holds vectors of another length than the index has.
    """
    if config.index is not None:
        await asyncio.to_thread(prepare_index, str(pool.conninfo), config.index)
    index = config.index and replace(config.index, embed=Prepared(config.index.embed)).config
    async with Items(cast(Any, pool), index=index, ttl=config.ttl) as store:
        items = cast(Items, store)
        items.counting = counting
        try:
            yield items
        finally:
            await store.stop_ttl_sweeper()


def prepare_index(database_url: str, index: Index) -> None:
    """Create the table of vectors, unless it is there.

    Raises:
        ConfigError: it holds vectors of another length.
    """
    with exclusive(database_url) as conn:
        PostgresStore(conn, index=index.config).setup()
        known = conn.execute(DIMENSIONS).fetchall()[0]["dims"]
    if known != index.dims:
        raise ConfigError(
            f"store.index.dims is {index.dims}, but the database holds vectors of {known}: drop the tables "
            "store_vectors and vector_migrations, and write the items again."
        )
