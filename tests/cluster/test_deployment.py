"""What containers of ours must know of each other."""

import httpx

from tests.cluster.deployment import Deployment
from tests.eventually import eventually


async def test_a_webhook_with_a_relative_url_reaches_the_api_from_a_worker_elsewhere(deployment: Deployment) -> None:
    body = {"assistant_id": "plans", "input": {"plan": {"id": "p", "items": [0]}, "log": ["in/p"]}, "webhook": "/heard"}
    async with httpx.AsyncClient(base_url=deployment.urls[0], timeout=30) as http:
        answer = await http.post("/runs", json=body)
        run_id = answer.raise_for_status().json()["run_id"]

        async def heard() -> bool:
            return run_id in (await http.get("/heard")).json()

        await eventually(heard)


async def test_both_apis_serve_the_same_threads(deployment: Deployment) -> None:
    first, second = deployment.urls
    async with httpx.AsyncClient(timeout=30) as http:
        created = (await http.post(f"{first}/threads", json={})).raise_for_status().json()
        body = {"assistant_id": "plans", "input": {"plan": {"id": "p", "items": [0, 0]}, "log": ["in/p"]}}
        thread = f"/threads/{created['thread_id']}"
        run = (await http.post(f"{first}{thread}/runs", json=body)).raise_for_status().json()
        joined = (await http.get(f"{second}{thread}/runs/{run['run_id']}/join")).raise_for_status().json()
        assert len(joined["log"]) == 3
        state = (await http.get(f"{second}{thread}/state")).json()
    assert state["values"] == joined
