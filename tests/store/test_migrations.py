import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from ml_intern.base.errors import StoreFailed
from ml_intern.store.migrations import SCHEMA, migrate


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


@pytest.fixture
def schema(tmp_path):
    """The first step alone: what a later one adds is the test's choice."""
    folder = tmp_path / "schema"
    folder.mkdir()
    shutil.copy(SCHEMA / "0001_record.sql", folder)
    return folder


def test_the_shipped_files_are_numbered_without_a_gap():
    numbers = [int(file.name[:4]) for file in sorted(SCHEMA.glob("*.sql"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_new_file_gets_the_whole_schema_and_a_second_time_nothing(tmp_path):
    connection = connect(tmp_path / "db")
    migrate(connection)
    before = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    migrate(connection)
    assert connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
    assert version(connection) == len(list(SCHEMA.glob("*.sql")))
    connection.close()


def test_an_older_file_gets_what_it_lacks_and_keeps_what_it_has(tmp_path, schema):
    connection = connect(tmp_path / "db")
    migrate(connection, schema)
    connection.execute("INSERT INTO sessions (id) VALUES ('01a')")
    step = "ALTER TABLE sessions ADD COLUMN mood TEXT NOT NULL DEFAULT 'a;b';\n-- a comment; with a semicolon\n"
    (schema / "0002_mood.sql").write_text(step + "CREATE TABLE more (n);")
    migrate(connection, schema)
    assert connection.execute("SELECT id, mood FROM sessions").fetchall() == [("01a", "a;b")]
    assert version(connection) == 2
    connection.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path, schema):
    connection = connect(tmp_path / "db")
    migrate(connection, schema)
    (schema / "0002_good.sql").write_text("CREATE TABLE good (n);")
    (schema / "0003_bad.sql").write_text("CREATE TABLE bad (n);\nCREATE TABLE good (n);")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, schema)
    assert version(connection) == 1
    assert not connection.in_transaction
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == {"sessions", "events"}
    connection.close()


def test_two_at_once_migrate_once(tmp_path):
    for attempt in range(20):
        path = tmp_path / f"db{attempt}"
        connections = [connect(path) for _ in range(4)]
        threads = [threading.Thread(target=migrate, args=(each,)) for each in connections]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert {version(each) for each in connections} == {len(list(SCHEMA.glob("*.sql")))}
        for each in connections:
            each.close()


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    connection = connect(tmp_path / "db")
    connection.execute("PRAGMA user_version = 1000")
    with pytest.raises(StoreFailed, match="newer version"):
        migrate(connection)
    assert version(connection) == 1000
    connection.close()
