"""Large outputs beside the record, as tools need them: put, page, measure. Knows no disk and no tool."""

from typing import Protocol


class Blobs(Protocol):
    """Content-addressed bytes of one session; `sha` is the hex SHA-256 of what is kept."""

    async def put(self, data: bytes) -> str:
        """Keep `data` and return its address. On disk when this returns."""
        ...

    async def get(self, sha: str, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset` on; empty past the end.

        Raises:
            MlInternError: no such blob, or it is damaged.
        """
        ...

    async def size(self, sha: str) -> int:
        """The blob's length in bytes.

        Raises:
            MlInternError: no such blob.
        """
        ...
