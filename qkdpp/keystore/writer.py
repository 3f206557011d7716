"""One thread writes: each commit takes all that waits (group commit).

A job is a function of the connection. It runs inside a savepoint, so that one
that raises takes back its own changes and no other's. Its result is handed out
only after the commit that holds it is durable; a job that must leave its
changes and yet fail returns :class:`Refused`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from qkdpp.keystore.errors import StoreError

T = TypeVar("T")
LOGGER = logging.getLogger(__name__)

CHECKPOINT_S: Final = 60.0
"""The write-ahead log is folded into the database and emptied this often."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A job's result: its changes stay, and its caller gets ``error``."""

    error: Exception


@dataclass(slots=True, eq=False)
class Job:
    """``run`` and the future of its result; ``name`` is for fault injection."""

    name: str
    run: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    result: Any = None


def no_fault(_: str) -> None:
    """The hook outside tests."""


def _told(error: Exception) -> Exception:
    """What the caller of a job that failed is told."""
    if isinstance(error, sqlite3.OperationalError):
        told = StoreError(f"the key store cannot be written ({error}); look at its disk")
        told.__cause__ = error
        return told
    return error


class Writer:
    """The thread that owns the connection from construction to :meth:`close`.

    Args:
        db: a connection that no other thread uses any more.
        fault: called with the name of every point at which tests may kill the process: for each job ``NAME done``,
            ``NAME before commit`` and ``NAME after commit``, the last before any result is handed out.
    """

    def __init__(self, db: sqlite3.Connection, fault: Callable[[str], None] = no_fault) -> None:
        self._db, self._fault = db, fault
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._checkpoint = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="keystore", daemon=True)
        self._thread.start()

    def submit(self, name: str, run: Callable[[sqlite3.Connection], T | Refused]) -> Future[T]:
        """Queues a job; the future is done when its effect is durable. RuntimeError after :meth:`close`."""
        job = Job(name, run, Future())
        with self._lock:
            if self._closed:
                raise RuntimeError("the key store is closed")
            self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Does what waits, empties the write-ahead log and closes the connection. May be called again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            last = None in waiting
            jobs = [job for job in waiting if job is not None and job.future.set_running_or_notify_cancel()]
            if jobs:
                self._batch(jobs)
            if last or time.monotonic() - self._checkpoint > CHECKPOINT_S:
                self._fold()
        self._db.close()

    def _fold(self) -> None:
        self._checkpoint = time.monotonic()
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            LOGGER.warning("the write-ahead log of the key store stays for now (%s)", error)

    def _batch(self, jobs: list[Job]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._one(job)
            self._point(jobs, "before commit")
            self._db.execute("COMMIT")
            self._point(jobs, "after commit")
        except Exception as error:
            with contextlib.suppress(sqlite3.Error):  # then no later transaction begins, and all is refused
                self._db.rollback()
            for job in jobs:
                job.future.set_exception(_told(error))
            return
        for job in jobs:
            if isinstance(job.result, Refused):
                job.future.set_exception(job.result.error)
            else:
                job.future.set_result(job.result)

    def _one(self, job: Job) -> None:
        self._db.execute("SAVEPOINT job")
        try:
            job.result = job.run(self._db)
        except Exception as error:
            if not self._db.in_transaction:  # a full disk takes back the whole batch
                raise
            self._db.execute("ROLLBACK TO job")
            job.result = Refused(_told(error))
        self._db.execute("RELEASE job")
        self._fault(f"{job.name} done")

    def _point(self, jobs: list[Job], when: str) -> None:
        for job in jobs:
            self._fault(f"{job.name} {when}")
