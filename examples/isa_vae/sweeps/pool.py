"""A pool of local processes that each run one task at a time.

A worker that dies is reported at once and replaced, and its task is retried; the other workers
continue. Workers receive their tasks through pipes alone: a killed process leaves no semaphore
behind, and cannot die while holding a lock.
"""

import os
import pickle
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from tqdm import tqdm

Task = TypeVar("Task")
Result = TypeVar("Result")
Outcome = tuple[Task, Result | BaseException]

RETRIES = 2  # for a task that raised or whose worker died
VISIBLE = "CUDA_VISIBLE_DEVICES"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


class WorkerDiedError(Exception):
    """A worker process ended without returning a result."""


@dataclass(eq=False)
class Worker:
    """A process, the connection to it, and its GPU."""

    process: BaseProcess
    connection: Connection
    gpu: str | None


def print_message(text: str) -> None:
    """Print to stderr, above any progress bar."""
    tqdm.write(text, file=sys.stderr)


def failure(task: object, error: BaseException, attempts: int) -> str:
    """Describe what went wrong with a task, and what happens next."""
    what = str(error) if isinstance(error, WorkerDiedError) else f"{type(error).__name__}: {error}"
    retry = f"retrying (attempt {attempts + 1} of {RETRIES + 1})"
    return f"{getattr(task, 'key', task)}: {what}; {retry if attempts <= RETRIES else 'giving up'}"


def in_pool(
    tasks: Sequence[Task],
    function: Callable[[Task], Result],
    workers: int,
    gpus: Sequence[str] = (),
    report: Callable[[str], None] = print_message,
) -> Iterator[Outcome[Task, Result]]:
    """Yield each task with its result, or with the error of its last attempt.

    Args:
        tasks: Tasks to run, each in one process.
        function: Function that runs a task; tasks, function and results must be picklable.
        workers: Number of processes, with one thread each unless they request more.
        gpus: If given, each process sees one of these GPUs; list a GPU several times to share it.
        report: Callback that receives a message for each failure.
    """
    os.environ.update(ONE_THREAD)  # read by the workers when they import torch
    waiting, failures = deque(range(len(tasks))), Counter[int]()
    with worker_pool(function, list(gpus[:workers]) or [None] * workers) as pool:
        while waiting or pool.busy:
            while waiting and pool.has_free_worker():
                if pool.submit(waiting[0], tasks[waiting[0]]):
                    waiting.popleft()
            for k, done, value in pool.results():
                if done:
                    yield tasks[k], value
                    continue
                failures[k] += 1
                report(failure(tasks[k], value, failures[k]))
                if failures[k] <= RETRIES:
                    waiting.append(k)
                else:
                    yield tasks[k], value


class WorkerPool:
    """The workers of a pool, each started when first needed."""

    def __init__(self, function: Callable[[Any], Any], slots: Sequence[str | None]) -> None:
        self.function, self.free = function, list(slots)[::-1]
        self.idle: list[Worker] = []
        self.busy: dict[Connection, tuple[Worker, int]] = {}

    def has_free_worker(self) -> bool:
        """Whether one more task can start now."""
        return bool(self.idle or self.free)

    def submit(self, k: int, task: object) -> bool:
        """Send task number k to a worker; False if the worker has died since its last task."""
        worker = self.idle.pop() if self.idle else start_worker(self.function, self.free.pop())
        try:
            worker.connection.send((task,))
        except OSError:
            self.reap(worker)
            return False
        self.busy[worker.connection] = worker, k
        return True

    def results(self) -> Iterator[tuple[int, bool, Any]]:
        """Wait for results: the task's number, whether it succeeded, and its result or error."""
        for connection in wait(list(self.busy)):
            worker, k = self.busy.pop(connection)
            try:
                done, value = connection.recv()
            except (EOFError, OSError):
                yield k, False, WorkerDiedError(self.reap(worker))
            else:
                self.idle.append(worker)
                yield k, done, value

    def reap(self, worker: Worker) -> str:
        """Free the slot of a dead worker, and describe how it ended."""
        worker.connection.close()
        worker.process.join()
        self.free.append(worker.gpu)
        status = worker.process.exitcode or 0
        kind = f"was killed by {signal.Signals(-status).name}" if status < 0 else "ended"
        hint = " (out of memory?)" if status == -signal.SIGKILL else ""
        kind += hint if status < 0 else f" with exit status {status}"
        return f"its worker, process {worker.process.pid}, {kind}"

    def shut_down(self, interrupt: bool) -> None:
        """Join all workers: after their current task, or after interrupting it."""
        workers = [*self.idle, *(worker for worker, _ in self.busy.values())]
        try:
            for worker in workers:
                with suppress(OSError):
                    worker.connection.send(None)
                if interrupt and worker.process.pid is not None:
                    os.kill(worker.process.pid, signal.SIGINT)
            for worker in workers:
                with suppress(EOFError, OSError):
                    while True:  # an unread result would keep the worker from exiting
                        worker.connection.recv_bytes()
                worker.process.join()
        except KeyboardInterrupt:  # a second one
            for worker in workers:
                worker.process.kill()
            raise


@contextmanager
def worker_pool(
    function: Callable[[Any], Any], slots: Sequence[str | None]
) -> Iterator[WorkerPool]:
    """A pool with one worker per slot; Ctrl-C is forwarded to each worker once."""
    pool = WorkerPool(function, slots)
    try:
        yield pool
    except BaseException:
        pool.shut_down(interrupt=True)
        raise
    pool.shut_down(interrupt=False)


def start_worker(function: Callable[[Any], Any], gpu: str | None) -> Worker:
    """Start a process that ignores Ctrl-C until it has a task."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, os.getpid(), gpu, function))
    resource_tracker.ensure_running()  # else process.start does it, and unblocks Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Worker(process, ours, gpu)


def work(
    connection: Connection, parent: int, gpu: str | None, function: Callable[[Any], Any]
) -> None:
    """Run tasks in a worker process until there are no more, or the parent is gone."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    tqdm.set_lock(threading.RLock())  # the default is a semaphore, which outlives a killed process
    if gpu is not None:
        os.environ[VISIBLE] = gpu  # read when the first tensor is moved to the GPU
    threading.Thread(target=exit_with_parent, args=(parent,), daemon=True).start()
    with suppress(EOFError, OSError):
        while (message := connection.recv()) is not None:
            connection.send_bytes(pickled_result(function, message[0], connection))


def exit_with_parent(parent: int) -> None:
    """Exit this process once its parent is gone, for example killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def pickled_result(function: Callable[[Any], Any], task: object, connection: Connection) -> bytes:
    """Pickle whether the task succeeded, and its result or error."""
    try:
        return pickle.dumps((True, interruptible(function, task, connection)))
    except BaseException as error:
        found: BaseException = error
    try:
        pickle.loads(pickled := pickle.dumps((False, found)))
    except Exception:  # the error cannot be pickled and restored
        pickled = pickle.dumps((False, RuntimeError(repr(found))))
    return pickled


def interruptible(function: Callable[[Any], Any], task: object, connection: Connection) -> Any:
    """Run a task so that Ctrl-C ends it; between tasks a worker ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if connection.poll():  # shut down: the signal came before the task started
            raise KeyboardInterrupt
        return function(task)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
