"""What the world may read of an exception."""

import json
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from durathread.graphs.failures import MASK, describe, masked


class Own(ValueError):
    """A class of the user's."""


class Library(ValueError):
    """A class of a library's, which may quote anything."""


Library.__module__ = "psycopg"


class Order(BaseModel):
    """What a node validates."""

    card: int


def invalid() -> ValidationError:
    """Fail as pydantic does, which quotes what it was given."""
    with pytest.raises(ValidationError) as found:
        Order.model_validate({"card": "4111 secret"})
    return found.value


def undecodable() -> json.JSONDecodeError:
    """Fail as json does."""
    with pytest.raises(json.JSONDecodeError) as found:
        json.loads("{")
    return found.value


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("plain"), "plain"),
        (Own("mine"), "mine"),
        (undecodable(), "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (Library("password=secret"), MASK),
        (PydanticCustomError("x", "secret"), MASK),
        (psycopg.OperationalError("password=secret"), MASK),
        (OSError("secret"), MASK),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_text_of_a_class_is_shown_whose_kind_and_origin_are_known(error: Any, shown: str) -> None:
    assert describe(error)["message"] == shown
    assert ("secret" in masked(error)) == ("secret" in shown)


def test_pydantic_says_what_is_wrong_and_not_what_it_was_given() -> None:
    said = describe(invalid())["message"]
    assert said.startswith("1 validation error for Order\ncard: Input should be a valid integer")
    assert "4111" not in said
    assert "4111" not in masked(invalid())
    assert "card" in masked(invalid())
