"""Traces of our own faults: kept in a file of the session for a report, never shown to a person. Knows no fault."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ml_intern import __name__ as product
from ml_intern.record.secrets import Secrets


@contextmanager
def traces_kept(path: Path, secrets: Secrets) -> Generator[None]:
    """While this holds, what our loggers report goes to `path`, made when there is something, and nowhere else."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(_Cleaned(secrets))
    logger = logging.getLogger(product)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)
        handler.close()


class _Cleaned(logging.Formatter):
    """Time, place and trace, without known secrets."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return self._secrets.clean(super().format(record))
