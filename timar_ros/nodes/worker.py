# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for one thread that does a node's slow work, job by job, in order of arrival.

Not for what a job does. Bounds the memory of what waits; a job that fails is reported, and the
next one is done.
"""

import queue
import threading
import traceback

# Sound that waits, the message in hand included: minutes of a stalled worker; then the newest is
# dropped.
_MAX_PENDING_BYTES = 16_000_000
_JOB_BYTES = 1000  # of a job, at least


class Worker:
    """
    Run jobs one after the other in a thread of its own.

    Jobs are functions without arguments. One that raises ValueError is bad input and reported as
    refused; any other exception is reported as a fault with its trace. Neither ends the thread.

    Args:
        on_refused: called with the text of a ValueError.
        on_fault: called with the trace of any other exception.
    """

    def __init__(self, on_refused, on_fault):
        self.n_overflowed = 0
        self._is_stopping = False
        self._on_refused = on_refused
        self._on_fault = on_fault
        self._inbox = queue.SimpleQueue()
        # Each is written by one thread only: the executor's, and the worker's.
        self._bytes_in = 0
        self._bytes_out = 0
        self._thread = threading.Thread(target=self._run, name='conversation', daemon=True)
        self._thread.start()

    @property
    def n_pending(self) -> int:
        """Jobs that wait."""
        return self._inbox.qsize()

    def do(self, job, n_bytes: int = 0) -> bool:
        """
        Append a job.

        Args:
            job: function without arguments.
            n_bytes: what it holds, for input that may be lost; 0 for what must be done.

        Returns:
            False if it was dropped and counted, because too much waits.
        """
        if n_bytes:
            n_bytes += _JOB_BYTES
            if self._bytes_in - self._bytes_out + n_bytes > _MAX_PENDING_BYTES:
                self.n_overflowed += 1
                return False
            self._bytes_in += n_bytes
        self._inbox.put((job, n_bytes))
        return True

    def stop(self) -> None:
        """Finish the job in hand, drop those that wait, and end the thread."""
        self._is_stopping = True
        self._inbox.put((None, 0))
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopping:
            job, n_bytes = self._inbox.get()
            if job is None:
                return
            self._do(job)
            del job  # and the message in it, before the next one is counted
            self._bytes_out += n_bytes

    def _do(self, job) -> None:
        try:
            job()
        except ValueError as error:
            self._on_refused(str(error))
        except Exception:
            self._on_fault(traceback.format_exc())
