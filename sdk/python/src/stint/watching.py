"""Watches: what they give, and how they go on after a broken connection. The same for both clients.

Owns: resuming from the last revision; beginning anew when it is no longer kept. Does not own: connections.

Invariants: each change is given once and in order of revision. When changes were missed the watch says so: it gives
`Relisted` with everything there is, and goes on from there.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

from stint import _limits, errors
from stint.v1 import meta_pb2

T = TypeVar("T")


class ChangeKind(enum.Enum):
    """What happened to an object."""

    ADDED = "added"
    """It is new, or came to match. A watch that begins with what there is gives that so."""
    MODIFIED = "modified"
    """It changed."""
    DELETED = "deleted"
    """It is gone, or matches no longer."""


@dataclass(frozen=True)
class Change(Generic[T]):
    """One change of one object."""

    kind: ChangeKind
    """What happened."""
    object: T
    """The object after the change; for a deletion its last state."""
    revision: int
    """Revision of the change: a watch from here misses nothing later."""


@dataclass(frozen=True)
class Relisted(Generic[T]):
    """Changes were missed. Replace what you know by this; the watch goes on from it."""

    objects: tuple[T, ...]
    """All objects that match now."""
    revision: int
    """The revision that they show."""


WatchEvent = Change[T] | Relisted[T]

_KINDS = {
    meta_pb2.WATCH_EVENT_TYPE_ADDED: ChangeKind.ADDED,
    meta_pb2.WATCH_EVENT_TYPE_MODIFIED: ChangeKind.MODIFIED,
    meta_pb2.WATCH_EVENT_TYPE_DELETED: ChangeKind.DELETED,
}


class WatchState(Generic[T]):
    """How far a watch is."""

    def __init__(self, from_revision: int | None, n_servers: int = 1) -> None:
        if from_revision is not None and from_revision < 0:
            raise ValueError(f"a revision is at least 0, not {from_revision}")
        self.revision = from_revision or 0
        """Everything up to here was given; 0: what there is has yet to be read."""
        self._present: list[T] = []
        self._is_relist = False
        self._restarts = 0
        self._n_servers = n_servers
        # Servers in a row that do not keep the revision.
        self._refusals = 0

    def opened(self) -> int:
        """Return the revision that a new stream begins from. What there is is read from its beginning again."""
        self._present.clear()
        return self.revision

    def expired(self, error: errors.ExpiredError) -> None:
        """Take that a server does not keep the revision; once that is so of all, begin anew.

        Raises if that was done too often without success.
        """
        if self.revision > 0:
            self._refusals += 1
            if self._refusals < self._n_servers:
                # One that was started lately keeps less than the others.
                return
            self._refusals = 0
        self._restarts += 1
        if self._restarts > _limits.LIST_RESTARTS_MAX:
            self._restarts = 0
            raise error
        self._is_relist = self._is_relist or self.revision > 0
        self.revision = 0

    def take(self, event_type: int, revision: int, message: T | None) -> list[WatchEvent[T]]:
        """Say what a message of the stream gives. It has brought the watch further if `revision` grows by it."""
        self._refusals = 0
        kind = _KINDS.get(meta_pb2.WatchEventType.ValueType(event_type))
        if kind is None:
            return self._bookmark(revision)
        if message is None:
            raise errors.AnswerError("a change without its object")
        if self.revision == 0:
            # What there is; a bookmark ends it. Nothing is given before, so that a break can't give any of it twice.
            self._present.append(message)
            return []
        if revision <= self.revision:
            return []
        self.revision = revision
        return [Change(kind, message, revision)]

    def _bookmark(self, revision: int) -> list[WatchEvent[T]]:
        if self.revision > 0:
            self.revision = max(self.revision, revision)
            return []
        self.revision = revision
        self._restarts = 0
        present, self._present = self._present, []
        if self._is_relist:
            self._is_relist = False
            return [Relisted(tuple(present), revision)]
        return [Change(ChangeKind.ADDED, one, revision) for one in present]
