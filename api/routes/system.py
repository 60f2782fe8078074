"""Health and facts about the server."""

from importlib.metadata import version

from starlette.responses import Response

from durathread.api.deps import Server, ServerDep
from durathread.api.http.bodies import Routes
from durathread.api.http.error_answers import problems
from durathread.api.http.json_answers import Json
from durathread.api.openapi.schemas import Health, Info, Readiness
from durathread.api.services.readiness import examine
from durathread.db.pool import connection
from durathread.errors import BadRequest

router = Routes(tags=["System"])
# What is left of it when `http.disable_meta` is set.
health = Routes(tags=["System"])

VERSION = version("durathread")
# The Agent Server whose API this is: Studio refuses servers that name an older one than 0.4.35.
API_VERSION = "0.16.7"
YES, NO = ("1", "true"), ("0", "false", "")


@health.get("/ok", response_model=Health)
@health.get("/", response_model=Health)
@router.get("/", response_model=Health)
async def root(server: ServerDep) -> Response:
    """Say that the server answers, and that none of its parts has ended."""
    _require_all(server)
    return Json({"ok": True})


@router.get("/ok", response_model=Health, responses=problems(400))
async def ok(server: ServerDep, check_db: str = "0") -> Response:
    """Say that the server answers, and that none of its parts has ended; with `check_db=1`, also that its database does."""
    _require_all(server)
    if check_db.lower() not in YES + NO:
        raise BadRequest("check_db must be 0 or 1")
    if check_db.lower() in YES:
        await server.briefly("database", lambda: _ask_database(server))
    return Json({"ok": True, "services": {}})


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
async def ready(server: ServerDep) -> Response:
    """Say whether Postgres, Temporal and Valkey answer: 200 if all do, else 503."""
    services = await server.briefly("engines", lambda: examine(server))
    ok = all(each["ok"] for each in services.values())
    return Json({"ok": ok, "services": services}, status_code=200 if ok else 503)


@health.get("/ready", response_model=Health, responses={503: {"model": Health}})
async def ready_only(server: ServerDep) -> Response:
    """Say whether all engines answer, and nothing of them."""
    ok = all(each["ok"] for each in (await server.briefly("engines", lambda: examine(server))).values())
    return Json({"ok": ok}, status_code=200 if ok else 503)


@router.get("/info", response_model=Info)
async def info(server: ServerDep) -> Response:
    """Say what the server is, and what it can do."""
    flags = {
        "assistants": True,
        "crons": server.settings.crons_enabled,
        "langsmith": False,
        "langsmith_tracing_replicas": False,
        "langsmith_tracing_session_on_runs": False,
        "strict_resume": True,
    }
    return Json(
        {
            "version": API_VERSION,
            "durathread_version": VERSION,
            "langgraph_py_version": version("langgraph"),
            "flags": flags,
            "host": {},
        }
    )


async def _ask_database(server: Server) -> None:
    async with connection(server.pool) as conn:
        await conn.execute("SELECT 1")


def _require_all(server: Server) -> None:
    if server.owner.failure is not None:
        raise server.owner.failure
