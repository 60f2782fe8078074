"""The command line: `durathread dev`, and one command for each role of the server."""

import asyncio
import gc
import importlib
import json
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from durathread.embedded.dev import Dev, Options
from durathread.embedded.folder import published
from durathread.errors import ConfigError, Error

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Config = Annotated[Path | None, typer.Option(help="The langgraph.json to serve.", show_default="DURATHREAD_CONFIG")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="DURATHREAD_HOST")]
Port = Annotated[int | None, typer.Option(help="Port to listen on.", show_default="DURATHREAD_PORT")]


def main() -> None:
    """Run the command line."""
    try:
        app()
    except Error as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)


def show_version(value: bool) -> None:
    """Print the version and leave, if asked to."""
    if value:
        typer.echo(f"durathread {version('durathread')}")
        raise typer.Exit


@app.callback()
def durathread(
    show: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Serve LangGraph graphs over the LangGraph SDK's HTTP API, executed on Temporal."""


@app.command()
def dev(
    config: Annotated[Path, typer.Option(help="The langgraph.json to serve.")] = Path("langgraph.json"),
    host: Annotated[str, typer.Option(help="Address the API listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port the API listens on.")] = 8123,
    data: Annotated[Path, typer.Option(help="Folder that keeps the data.")] = Path(".durathread"),
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep no data.")] = False,
    no_ui: Annotated[bool, typer.Option("--no-ui", help="Start no Temporal UI.")] = False,
) -> None:
    """Run everything on this machine: Postgres, Valkey, Temporal, a worker and the API."""
    asyncio.run(Dev(Options(config, host, port, data, ephemeral, has_ui=not no_ui)).run())


@app.command()
def env(
    data: Annotated[Path, typer.Option(help="Folder that keeps the data.")] = Path(".durathread"),
) -> None:
    """Print where the engines of a running `durathread dev` are: eval "$(durathread env)"."""
    for name, value in published(data).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def check(config: Config = None) -> None:
    """Import every graph that is to be served, and build it once. Needs no engines."""
    run("durathread.startup.checking", DURATHREAD_CONFIG=config)


@app.command()
def schema() -> None:
    """Print the JSON Schema of langgraph.json, for editors."""
    typer.echo(json.dumps(load("durathread.config.langgraph_json").schema(), indent=2))


@app.command()
def api(config: Config = None, host: Host = None, port: Port = None) -> None:
    """Run the API. Engines and settings come from environment variables."""
    run("durathread.api.serve", DURATHREAD_CONFIG=config, DURATHREAD_HOST=host, DURATHREAD_PORT=port)


@app.command()
def worker(config: Config = None) -> None:
    """Run a worker. Engines and settings come from environment variables."""
    run("durathread.worker", DURATHREAD_CONFIG=config)


@app.command()
def migrate(
    status: Annotated[
        bool, typer.Option("--status", help="Change nothing; exit code 1 if there is anything to do.")
    ] = False,
    claim: Annotated[
        bool, typer.Option("--claim", help="Take the task queue over from a database that is gone.")
    ] = False,
) -> None:
    """Bring the database in DATABASE_URL to this version, and Temporal's namespace to what it needs."""
    settings = configured()
    migration = load("durathread.startup.migration")
    code = migration.show(settings, say=typer.echo) if status else migration.run(settings, say=typer.echo, claim=claim)
    # What was imported can abort the interpreter's own exit.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@app.command()
def verify(
    url: Annotated[str, typer.Argument(help="Where the server is, this one or any other of the API.")],
    only: Annotated[list[str] | None, typer.Option(help="The name of a check; all by default.")] = None,
) -> None:
    """Check what a server does about messages that come while it works. It must serve a graph of the name `verify`."""
    raise typer.Exit(load("durathread.verify.report").main(url, only=only or (), say=typer.echo))


def run(module: str, **variables: object) -> None:
    """Run a role as this process; options stand for environment variables."""
    os.environ.update({name: str(value) for name, value in variables.items() if value is not None})
    # What is imported stays: looking through it for garbage, again and again, is a fifth of the time that imports take.
    gc.disable()
    settings, role = configured(), load(module)
    gc.freeze()
    gc.enable()
    role.main(settings)


def configured() -> Any:
    """Read the settings, and set up logging as they say.

    Raises:
        ConfigError: an environment variable has a value that it cannot have.
    """
    try:
        settings = load("durathread.config.settings").Settings()
    except ValueError as error:
        raise ConfigError(str(error)) from None
    load("durathread.process.logs").configure(settings.log_level, json=settings.log_json)
    return settings


def load(module: str) -> Any:
    """Import a module now: `dev` and `--help` would start two seconds later if everything were imported above."""
    return importlib.import_module(module)
