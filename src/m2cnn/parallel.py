"""Much work of one kind, in chunks, by several processes: in order, with a bar, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

import cv2
from tqdm import tqdm

from m2cnn.errors import M2cnnError, SettingError

Task, Result = TypeVar("Task"), TypeVar("Result")


def in_chunks(
    work: Callable[[list[Task]], list[Result]], tasks: Sequence[Task], workers: int, chunk: int, title: str
) -> Iterator[list[Result]]:
    """work(chunk of tasks) -> a result per task; the results of each chunk, in the order of the tasks.

    workers: 1 works in this process. With more, `work` must pickle, and a script needs `if __name__ == "__main__":`.
    Shows "TITLE: n of N" and the time left. Raises SettingError for less than one worker, M2cnnError when a worker
    process dies.
    """
    check_workers(workers)
    chunks = [list(tasks[start : start + chunk]) for start in range(0, len(tasks), chunk)]
    alone = workers == 1 or len(chunks) < 2
    results = map(work, chunks) if alone else _in_processes(work, chunks, workers, title)
    yield from shown(results, len(tasks), title)


def check_workers(workers: int) -> None:
    """Raises SettingError for less than one: to be called before anything is written."""
    if workers < 1:
        raise SettingError("workers", f"{workers}", "1 or more", "1 works in this process.")


def _in_processes(work: Callable, chunks: list, workers: int, title: str) -> Iterator[list]:
    # spawn: a fork would copy the locks of torch's and OpenCV's threads in whatever state they are
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context, initializer=_begin_worker)
    try:
        with _deaf_to_interrupts():
            results = pool.map(work, chunks)
        yield from results
    except BrokenProcessPool as cause:
        repair = 'Call again, it goes on. Scripts need `if __name__ == "__main__":`; workers=1 needs least memory.'
        raise M2cnnError(title, "a worker process died", "workers that live", repair) from cause
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A terminal's Ctrl-C reaches workers too: one that dies of it while it starts would be waited for for ever.

    What is blocked here is blocked in the processes that start meanwhile, and reaches this one afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Ctrl-C is the parent's to handle; and when the parent is killed, its workers must not stay behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)  # there is a process for each core already

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def shown(results: Iterator[list[Result]], total: int, title: str) -> Iterator[list[Result]]:
    """Pass results on: one bar with the time left on a terminal, a line per tenth elsewhere."""
    terminal, finished, started = sys.stderr.isatty(), 0, time.monotonic()
    with tqdm(total=total, desc=title, disable=not terminal or not total) as bar:
        for some in results:
            yield some
            bar.update(len(some))
            before, finished = finished, finished + len(some)
            if not terminal and finished * 10 // total > before * 10 // total:
                left = _left(time.monotonic() - started, finished, total)
                print(f"{title}: {finished} of {total}{left}", file=sys.stderr, flush=True)


def _left(spent: float, finished: int, total: int) -> str:
    """The time left in words, where it is worth saying.

    >>> _left(60, 100, 400), _left(4000, 100, 400), _left(1, 100, 400)
    (', 3 min left', ', 3 h 20 min left', '')
    """
    minutes = round(spent / finished * (total - finished) / 60)
    if minutes < 1:
        return ""
    return f", {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f", {minutes} min left"
