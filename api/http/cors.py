"""What browsers may do from pages of other origins."""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from durathread.config.http import Cors

EXPOSED = [
    "content-location",
    "location",
    "x-pagination-total",
    "x-pagination-next",
    "x-request-id",
    "idempotency-replayed",
    "retry-after",
]


def cors_middleware(cors: Cors) -> Middleware:
    """Build the layer that answers preflights, also those of pages that call into a private network."""
    return Middleware(
        CORSMiddleware,
        allow_origins=cors.allow_origins or [],
        allow_methods=cors.allow_methods,
        allow_headers=cors.allow_headers,
        allow_credentials=cors.allow_credentials,
        allow_origin_regex=cors.allow_origin_regex,
        expose_headers=list(dict.fromkeys([*EXPOSED, *cors.expose_headers])),
        max_age=cors.max_age,
        allow_private_network=True,
    )
