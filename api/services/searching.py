"""What all searches have in common: pages, orders, and the headers that tell of the next page."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from durathread.api.http.json_answers import Json
from durathread.errors import Invalid
from durathread.runs.request import Body

MOST = 1000
# Totals are true up to this many beyond the page: a search among 200,000 threads took 390 ms with all counted, 10 ms so.
COUNTED = 10_000
SortOrder = Literal["asc", "desc"]


def clean(value: str) -> str:
    """Replace what Postgres cannot store: NUL characters and halves of surrogate pairs."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


Text = Annotated[str, AfterValidator(clean)]


class Page(Body):
    """Which part of what was found to answer with."""

    limit: int = Field(10, ge=1, le=MOST)
    offset: int = Field(0, ge=0, lt=2**31)

    @property
    def reach(self) -> int:
        """How many to count."""
        return self.offset + self.limit + COUNTED


def page(shown: Sequence[Any], *, asked: Page, total: int) -> Json:
    """Answer with a page, and say how many there are and where the next one begins."""
    headers = {"x-pagination-total": str(total)}
    end = asked.offset + len(shown)
    if shown and end < total:
        headers["x-pagination-next"] = str(end)
    return Json(shown, headers=headers)


def integer(value: str, name: str, *, least: int, most: int) -> int:
    """Read a number of a query.

    Raises:
        Invalid: it is none, or out of range.
    """
    try:
        number = int(value)
    except ValueError:
        raise Invalid(f"{name} must be an integer") from None
    if not least <= number <= most:
        raise Invalid(f"{name} must be between {least} and {most}")
    return number
