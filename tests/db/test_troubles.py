"""What an error of Postgres says: that it is away, that others were at the same rows, or neither."""

import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolTimeout

from durathread.db.pool import is_clash, is_outage


@pytest.mark.parametrize(
    "kind",
    [
        errors.ConnectionFailure,
        errors.SqlclientUnableToEstablishSqlconnection,
        errors.TooManyConnections,
        errors.DiskFull,
        errors.OutOfMemory,
        errors.AdminShutdown,
        errors.CrashShutdown,
        errors.CannotConnectNow,
        errors.IoError,
        # A server that has become a replica.
        errors.ReadOnlySqlTransaction,
    ],
)
def test_it_is_away(kind: type[psycopg.Error]) -> None:
    assert is_outage(kind("away"))
    assert not is_clash(kind("away"))


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("consuming input failed"),
        psycopg.InterfaceError("the connection is closed"),
        PoolTimeout(),
    ],
)
def test_a_connection_that_cannot_be_had_is_an_outage(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize("kind", [errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable])
def test_others_were_at_the_same_rows(kind: type[psycopg.Error]) -> None:
    assert is_clash(kind("clash"))
    assert not is_outage(kind("clash"))


@pytest.mark.parametrize(
    "error",
    [
        errors.QueryCanceled("timeout"),
        errors.ProgramLimitExceeded("index row size"),
        errors.UniqueViolation("twice"),
        errors.InsufficientPrivilege("not yours"),
        psycopg.InterfaceError("a wrong use"),
        psycopg.DataError("no such value"),
        ValueError("no error of Postgres"),
    ],
)
def test_it_refuses_what_it_was_asked(error: Exception) -> None:
    assert not is_outage(error)
    assert not is_clash(error)
