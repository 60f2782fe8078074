"""Every setting of the server, read once from environment variables."""

from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def named(*names: str) -> AliasChoices:
    """Name the environment variables a setting is read from, first match wins."""
    return AliasChoices(*names)


class Settings(BaseSettings):
    """What an operator can set. Temporal's own `TEMPORAL_*` variables are read by `temporalio.envconfig`."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    database_url: str = Field(
        default="postgresql://postgres:postgres@127.0.0.1:5432/postgres",
        validation_alias=named("DATABASE_URL", "POSTGRES_URI"),
        description="Postgres connection string.",
    )
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        validation_alias=named("REDIS_URL", "REDIS_URI"),
        description="Valkey or Redis connection string.",
    )
    config: Path = Field(
        default=Path("langgraph.json"),
        validation_alias=named("DURATHREAD_CONFIG"),
        description="Path of langgraph.json.",
    )
    host: str = Field(
        default="127.0.0.1", validation_alias=named("DURATHREAD_HOST"), description="Address the API listens on."
    )
    port: int = Field(
        default=8123, validation_alias=named("DURATHREAD_PORT", "PORT"), description="Port the API listens on."
    )
    task_queue: str = Field(
        default="",
        validation_alias=named("DURATHREAD_TASK_QUEUE"),
        description="Temporal task queue; by default one that is named after the database.",
    )
    start_patience: float = Field(
        default=60,
        validation_alias=named("DURATHREAD_START_PATIENCE"),
        ge=0,
        description="Seconds a role that starts waits for Postgres and Temporal.",
    )
    jobs_per_worker: int = Field(
        default=100,
        validation_alias=named("N_JOBS_PER_WORKER"),
        ge=1,
        description="Steps that one worker process runs at once.",
    )
    step_budget: float = Field(
        default=0.1,
        validation_alias=named("DURATHREAD_STEP_BUDGET"),
        ge=0,
        description="Seconds for which an activity goes on to the next superstep; 0 for one superstep an activity.",
    )
    pool_size: int = Field(
        default=16, validation_alias=named("DURATHREAD_POOL_SIZE"), ge=2, description="Postgres connections a process."
    )
    run_timeout: float = Field(
        default=86400, validation_alias=named("BG_JOB_TIMEOUT_SECS"), gt=0, description="Seconds a run may take."
    )
    step_attempts: int = Field(
        default=3,
        validation_alias=named("BG_JOB_MAX_RETRIES"),
        ge=1,
        description="Workers that one step may take down before its run ends as `error`.",
    )
    shutdown_grace: float = Field(
        default=25,
        validation_alias=named("BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"),
        ge=0,
        description="Seconds a stopping worker lets its steps finish before it hands them back.",
    )
    cancel_grace: float = Field(
        default=2,
        validation_alias=named("DURATHREAD_CANCEL_GRACE"),
        ge=0,
        description="Seconds a cancelled node may take to stop before the next run starts without it.",
    )
    heartbeat_timeout: float = Field(
        default=10,
        validation_alias=named("DURATHREAD_HEARTBEAT_TIMEOUT"),
        gt=1,
        description="Seconds for which a machine may be silent, or a worker frozen, before its steps are repeated elsewhere.",
    )
    heartbeat_interval: float = Field(
        default=1,
        validation_alias=named("DURATHREAD_HEARTBEAT_INTERVAL"),
        gt=0,
        description="Seconds between the heartbeats of a step, each an Action on Temporal Cloud. A cancellation that the server does "
        "not push comes with the next.",
    )
    sweep_interval: float = Field(
        default=20,
        validation_alias=named("DURATHREAD_SWEEP_INTERVAL"),
        gt=0,
        description="Seconds between two looks into the database for runs that Temporal has not heard of.",
    )
    graph_timeout: float = Field(
        default=30,
        validation_alias=named("DURATHREAD_GRAPH_TIMEOUT"),
        gt=0,
        description="Seconds a request waits for a graph to be opened, drawn, read or updated.",
    )
    loop_patience: float = Field(
        default=30,
        validation_alias=named("DURATHREAD_LOOP_PATIENCE"),
        ge=0,
        description="Seconds that a graph's steps wait for the event loop that the same graph blocks.",
    )
    webhook_secret: str = Field(
        default="",
        validation_alias=named("DURATHREAD_WEBHOOK_SECRET"),
        repr=False,
        description="Secrets that webhooks are signed with, separated by spaces.",
    )
    webhook_timeout: float = Field(
        default=30,
        validation_alias=named("DURATHREAD_WEBHOOK_TIMEOUT"),
        gt=0,
        description="Seconds a receiver may take.",
    )
    webhook_first_wait: float = Field(
        default=1,
        validation_alias=named("DURATHREAD_WEBHOOK_FIRST_WAIT"),
        gt=0,
        description="Seconds before a failed webhook is tried again; twice as long each time, at most 300.",
    )
    webhook_give_up: float = Field(
        default=86400,
        validation_alias=named("DURATHREAD_WEBHOOK_GIVE_UP"),
        gt=0,
        description="Seconds after which a webhook is not tried again.",
    )
    api_url: str = Field(
        default="",
        validation_alias=named("DURATHREAD_API_URL"),
        description="Where workers reach the API, for webhooks with relative URLs; the port on this machine by default.",
    )
    thread_ttl: str = Field(
        default="",
        validation_alias=named("LANGGRAPH_THREAD_TTL"),
        description="JSON that takes the place of `checkpointer.ttl` in langgraph.json.",
    )
    stream_ttl: int = Field(
        default=120,
        validation_alias=named("RESUMABLE_STREAM_TTL_SECONDS"),
        ge=1,
        description="Seconds the events of an ended run stay replayable.",
    )
    stream_max_events: int = Field(
        default=100_000, validation_alias=named("DURATHREAD_STREAM_MAX_EVENTS"), ge=1, description="Events kept a run."
    )
    stream_max_bytes: int = Field(
        default=128 * 1024 * 1024,
        validation_alias=named("DURATHREAD_STREAM_MAX_BYTES"),
        ge=1,
        description="Bytes of events kept a run, and of protocol v2 a thread; the newest event is kept whatever it is.",
    )
    max_body_bytes: int = Field(
        default=32 * 1024 * 1024,
        validation_alias=named("HTTP_MAX_REQUEST_BODY_BYTES"),
        description="Largest request body.",
    )
    mount_prefix: str = Field(
        default="", validation_alias=named("MOUNT_PREFIX"), description="Path prefix under which the API is served."
    )
    crons_enabled: bool = Field(
        default=True, validation_alias=named("FF_CRONS_ENABLED"), description="Whether crons are served, and fire."
    )
    cron_window: float = Field(
        default=3600,
        validation_alias=named("DURATHREAD_CRON_WINDOW"),
        ge=10,
        description="Seconds by which a cron may fire late, after an outage; once, whatever it has missed.",
    )
    max_connections: int = Field(
        default=4096,
        validation_alias=named("DURATHREAD_MAX_CONNECTIONS"),
        ge=1,
        description="Connections that the API takes at once, those of probes included; more are answered 503.",
    )
    auth_recheck: float = Field(
        default=30,
        validation_alias=named("DURATHREAD_AUTH_RECHECK"),
        ge=1,
        description="Seconds after which `authenticate` is asked again about whoever holds a stream or a socket.",
    )
    allowed_hosts: str = Field(
        default="",
        validation_alias=named("DURATHREAD_ALLOWED_HOSTS"),
        description="Comma separated names that requests may be for; any by default.",
    )
    cors_origins: str = Field(
        default="*",
        validation_alias=named("CORS_ALLOW_ORIGINS"),
        description="Comma separated origins browsers may call from.",
    )
    cors_config: str = Field(
        default="",
        validation_alias=named("CORS_CONFIG"),
        description="CORS as a JSON object, instead of `http.cors` in langgraph.json.",
    )
    event_streaming: bool = Field(
        default=True,
        validation_alias=named("FF_V2_EVENT_STREAMING"),
        description="Whether protocol v2 is served.",
    )
    log_level: str = Field(
        default="INFO", validation_alias=named("LOG_LEVEL"), description="Least severe log level shown."
    )
    log_json: bool = Field(
        default=False, validation_alias=named("LOG_JSON"), description="Log JSON lines instead of text for people."
    )
    metrics_address: str = Field(
        default="",
        validation_alias=named("DURATHREAD_METRICS_ADDRESS"),
        description="host:port where a worker answers `/metrics`.",
    )
    temporal_metrics_address: str = Field(
        default="",
        validation_alias=named("DURATHREAD_TEMPORAL_METRICS_ADDRESS"),
        description="address:port where a worker answers `/metrics` with what Temporal's SDK measures.",
    )
    health_address: str = Field(
        default="",
        validation_alias=named("DURATHREAD_HEALTH_ADDRESS"),
        description="host:port where a worker answers `/ok`; may be that of the metrics.",
    )
    api_health_address: str = Field(
        default="",
        validation_alias=named("DURATHREAD_API_HEALTH_ADDRESS"),
        description="host:port where the API answers `/ok` too, also while a handler or an app of yours blocks it.",
    )

    @property
    def reachable_url(self) -> str:
        """Where the API is reached from here."""
        return self.api_url.rstrip("/") or f"http://127.0.0.1:{self.port}{self.mount_prefix}"
