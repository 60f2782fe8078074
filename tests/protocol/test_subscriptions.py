"""Which events a subscription takes: the same as the SDK's own filter does."""

import itertools
from typing import Any, cast

import orjson
from langgraph_sdk.stream.subscription import matches_subscription

from durathread.api.protocol.subscriptions import Subscription
from durathread.streams.events import Event
from durathread.streams.frames import Named, frame

RUN = Named("thread", "run")
NAMESPACES = [[], ["sub:1"], ["sub:2"], ["sub:1", "inner:3"], ["sub"], ["subway:1"], ["other:1", "sub:1"]]
FILTERS: list[list[list[str]] | None] = [
    None,
    [],
    [[]],
    [["sub"]],
    [["sub:1"]],
    [["sub", "inner"]],
    [["sub:2"], ["other"]],
]
CHANNELS = [["values"], ["custom"], ["custom:progress"], ["custom:other"], ["values", "custom:progress"]]


def test_filters_agree_with_those_of_the_sdk() -> None:
    frames = [frame(RUN, "event", "1", method="values", data={}, namespace=namespace) for namespace in NAMESPACES]
    for name in ("progress", "other"):
        data = {"name": name, "payload": 1}
        frames.append(frame(RUN, "event", "1", method="custom", data=data, channel=f"custom:{name}"))
    frames.append(frame(RUN, "event", "1", method="custom", data={"payload": 1}))
    taken = 0
    for found, namespaces, depth, channels in itertools.product(frames, FILTERS, [None, 0, 1], CHANNELS):
        given: dict[str, Any] = {"channels": channels, "namespaces": namespaces, "depth": depth}
        wanted = {key: value for key, value in given.items() if value is not None}
        entry = Event("1-0", found.name, found.data)
        expected = matches_subscription(orjson.loads(found.data), cast(Any, wanted))
        assert Subscription.of(wanted).takes(entry) == expected, (found.name, wanted)
        taken += expected
    assert taken > 100
