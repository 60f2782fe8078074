from contextlib import asynccontextmanager

from directory import HOURS
from fastapi import Depends, FastAPI, HTTPException, Request
from langgraph_sdk import get_client
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.offices = dict(HOURS)
    yield
    app.state.offices.clear()


app = FastAPI(title="Front desk", lifespan=lifespan)


class Office(BaseModel):
    place: str
    hours: str


def offices(request: Request) -> dict[str, str]:
    return request.app.state.offices


@app.get("/offices/{place}")
async def office(place: str, known: dict[str, str] = Depends(offices)) -> Office:
    if place not in known:
        raise HTTPException(404, f"no office in {place}")
    return Office(place=place, hours=known[place])


@app.post("/ask")
async def ask(office: Office) -> dict[str, str]:
    """Ask the assistant, from the inside."""
    said = await get_client().runs.wait(
        None, "assistant", input={"messages": [{"role": "user", "content": f"Greet {office.place}"}]}
    )
    return {"said": said["messages"][-1]["content"]}


@app.middleware("http")
async def stamp(request: Request, call_next):
    response = await call_next(request)
    response.headers["x-front-desk"] = "yes"
    return response
