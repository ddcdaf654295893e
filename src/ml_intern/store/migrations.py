"""Brings a database to today's schema: numbered .sql files, each once, all in one transaction. Knows no table."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ml_intern.base.errors import StoreFailed

SCHEMA = Path(__file__).with_name("schema")


def migrate(connection: sqlite3.Connection, schema: Path = SCHEMA) -> None:
    """Run what `PRAGMA user_version` says is missing. `connection` must be in autocommit.

    Raises:
        StoreFailed: the database was written by a newer version of the product.
        sqlite3.Error: a step failed; the database is as it was.
    """
    steps = {int(file.name.partition("_")[0]): file for file in sorted(schema.glob("[0-9]*_*.sql"))}
    newest = max(steps, default=0)
    if _version(connection, newest) == newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again inside the transaction: another process may have done it meanwhile.
        for number in range(_version(connection, newest) + 1, newest + 1):
            for statement in _statements(steps[number].read_text(encoding="utf-8")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, newest: int) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > newest:
        what = f"The record was written by a newer version of ml-intern (schema {version}, this one knows {newest})."
        raise StoreFailed(what, "Update ml-intern, or set ML_INTERN_DATA to another folder.")
    return version


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
