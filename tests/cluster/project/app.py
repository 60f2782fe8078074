"""Routes of a user's own, which a webhook with a relative URL reaches."""

from typing import Any

from fastapi import FastAPI

app = FastAPI()
HEARD: list[str] = []


@app.post("/heard")
async def hear(run: dict[str, Any]) -> None:
    """Note a run that has ended."""
    HEARD.append(run["run_id"])


@app.get("/heard")
async def heard() -> list[str]:
    """Tell which have."""
    return HEARD
