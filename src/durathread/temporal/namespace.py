"""What a namespace of Temporal must have before runs can be started in it: itself, and the attributes that runs carry."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from durathread.errors import Unprepared
from durathread.temporal.connection import SEARCH_ATTRIBUTES, address_of

log = structlog.get_logger()

KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
TYPE = "Keyword"
NAMES = tuple(key.name for key in SEARCH_ATTRIBUTES)
# How a server says that this is not for us to ask: Temporal Cloud, or an account without the right.
REFUSALS = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)
# Servers read what is registered from time to time, each by itself: so many answers in a row must be right.
ANSWERS = 3
PAUSE = 0.2
SPREADING = 90.0
# How long one answer may take.
TIMEOUT = timedelta(seconds=5)


@dataclass(frozen=True)
class Attributes:
    """What is wrong with the search attributes of a namespace: those that are not there, and those of another type."""

    missing: Sequence[str] = ()
    # By name, the type that it has.
    mistyped: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        """Say whether anything is wrong."""
        return bool(self.missing or self.mistyped)


async def describe(client: Client) -> bool:
    """Make sure that the namespace is there; say whether its server pushes cancellations to workers.

    Raises:
        Unprepared: it is not there.
        RPCError: Temporal does not answer.
    """
    try:
        found = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace), timeout=TIMEOUT
        )
    except RPCError as error:
        if error.status in REFUSALS:
            return True
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise Unprepared(
            f"Temporal at {address_of(client)} has no namespace '{client.namespace}'. Set TEMPORAL_NAMESPACE, or create it: "
            f"temporal operator namespace create --namespace {client.namespace}"
        ) from error
    return found.namespace_info.capabilities.worker_commands


async def examine(client: Client) -> Attributes:
    """Find out what is wrong with the search attributes.

    Raises:
        RPCError: Temporal does not answer.
    """
    try:
        request = ListSearchAttributesRequest(namespace=client.namespace)
        found = (await client.operator_service.list_search_attributes(request, timeout=TIMEOUT)).custom_attributes
    except RPCError as error:
        if error.status not in REFUSALS:
            raise
        # Who may not list them may still search by them.
        return Attributes([name for name in NAMES if not await _is_searchable(client, name)])
    mistyped = {name: _type_name(found[name]) for name in NAMES if name in found and found[name] != KEYWORD}
    return Attributes([name for name in NAMES if name not in found], mistyped)


async def check(client: Client) -> None:
    """Make sure that runs can be started in the namespace. Logs once what it does without.

    Raises:
        Unprepared: they cannot; says what to do.
        RPCError: Temporal does not answer.
    """
    pushes = await describe(client)
    if wrong := await examine(client):
        raise Unprepared(instructions(client.namespace, wrong, first="Run `durathread migrate`. By hand:"))
    if not pushes:
        log.info(
            "This Temporal server is not configured for durathread: all works, but runs are slower, and a cancel takes up to "
            "a second to reach its node. See docker/temporal-dynamic-config.yaml"
        )


async def register(client: Client) -> list[str]:
    """Register the search attributes that are missing, and wait until they can be used; return their names.

    Raises:
        Unprepared: they cannot be registered; says what to do.
        RPCError: Temporal does not answer.
    """
    await describe(client)
    wrong = await examine(client)
    if not wrong:
        return []
    if wrong.mistyped:
        raise Unprepared(instructions(client.namespace, wrong))
    await _add(client, wrong)
    await _until_searchable(client)
    return list(wrong.missing)


def instructions(namespace: str, wrong: Attributes, *, first: str = "") -> str:
    """Say what is wrong with search attributes, and the commands that mend it."""
    create = "temporal operator search-attribute create"
    lines = [
        f"  {name}, of type {TYPE}, is missing: {create} --namespace {namespace} --name {name} --type {TYPE}"
        for name in wrong.missing
    ]
    lines += [
        f"  {name} is of type {found}, and must be of type {TYPE}: temporal operator search-attribute remove "
        f"--namespace {namespace} --name {name}, then {create} --namespace {namespace} --name {name} --type {TYPE}"
        for name, found in wrong.mistyped.items()
    ]
    flags = " ".join(f"--search-attribute {name}={TYPE}" for name in wrong.missing)
    cloud = f"On Temporal Cloud: tcld namespace search-attributes add --namespace {namespace} {flags}" if flags else ""
    head = f"The search attributes of Temporal's namespace '{namespace}' are not as durathread needs them."
    return "\n".join(line for line in (f"{head} {first}".rstrip(), *lines, cloud) if line)


async def _add(client: Client, wrong: Attributes) -> None:
    request = AddSearchAttributesRequest(
        namespace=client.namespace, search_attributes=dict.fromkeys(wrong.missing, KEYWORD)
    )
    end = time.monotonic() + SPREADING
    while True:
        try:
            await client.operator_service.add_search_attributes(request, timeout=TIMEOUT)
        except RPCError as error:
            # A namespace that was made just now is not known everywhere.
            if error.status is RPCStatusCode.NOT_FOUND and time.monotonic() < end:
                await asyncio.sleep(PAUSE)
                continue
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                first = f"Temporal does not register them ({error.status.name}: {error.message}). By hand:"
                raise Unprepared(instructions(client.namespace, wrong, first=first)) from error
        return


async def _until_searchable(client: Client) -> None:
    end = time.monotonic() + SPREADING
    answers = 0
    while answers < ANSWERS:
        searchable = [await _is_searchable(client, name) for name in NAMES]
        answers = answers + 1 if all(searchable) else 0
        if time.monotonic() > end:
            raise Unprepared(
                "Temporal has registered the search attributes, but does not know them yet. Try again soon."
            )
        await asyncio.sleep(PAUSE)


async def _is_searchable(client: Client, name: str) -> bool:
    """Say whether workflows can be searched by an attribute as by a keyword. Where nobody may search, nothing is known."""
    # No other type of texts knows this operator.
    request = CountWorkflowExecutionsRequest(namespace=client.namespace, query=f"{name} STARTS_WITH 'durathread'")
    try:
        await client.workflow_service.count_workflow_executions(request, timeout=TIMEOUT)
    except RPCError as error:
        if error.status in REFUSALS:
            log.warning("Whether Temporal knows a search attribute cannot be found out", name=name, error=error.message)
            return True
        if error.status not in (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.NOT_FOUND):
            raise
        return False
    return True


def _type_name(value: int) -> str:
    name = IndexedValueType.Name(value)  # pyright: ignore[reportArgumentType]
    return "".join(part.capitalize() for part in name.removeprefix("INDEXED_VALUE_TYPE_").split("_"))
