"""Processes of this machine that each do one task at a time.

A worker that dies is named at once, and replaced, and the run it was at is tried again; its
neighbours go on. Workers hear of their tasks through pipes alone: there is no semaphore that a
kill could leave behind, and no lock that one could be killed with.
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

RETRIES = 2  # of a task whose worker died or that raised
VISIBLE = "CUDA_VISIBLE_DEVICES"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


class WorkerDiedError(Exception):
    """A process ended without an answer."""


@dataclass(eq=False)
class Worker:
    """A process, the line to it, and the GPU that it has."""

    process: BaseProcess
    line: Connection
    gpu: str | None


def say(text: str) -> None:
    """Above a bar, where there is one."""
    tqdm.write(text, file=sys.stderr)


def failure(task: object, error: BaseException, tried: int) -> str:
    """What went wrong with a task, and what comes next."""
    what = str(error) if isinstance(error, WorkerDiedError) else f"{type(error).__name__}: {error}"
    again = f"try {tried + 1} of {RETRIES + 1} follows" if tried <= RETRIES else "given up"
    return f"{getattr(task, 'key', task)}: {what}; {again}"


def in_pool(
    tasks: Sequence[Task],
    function: Callable[[Task], Result],
    workers: int,
    gpus: Sequence[str] = (),
    tell: Callable[[str], None] = say,
) -> Iterator[Outcome[Task, Result]]:
    """Yield each task with its result, or with the error that it ended with for good.

    Args:
        tasks: What to do, each for one process.
        function: That does it; tasks, function and results can be pickled.
        workers: Number of processes, with one thread each unless they ask for more.
        gpus: Where GPUs are named, each process sees one of them: a GPU that several are to share
            is named several times.
        tell: Is told of a failure when it happens.
    """
    os.environ.update(ONE_THREAD)  # for the workers, who read them when they import torch
    waiting, failures = deque(range(len(tasks))), Counter[int]()
    with crew_of(function, list(gpus[:workers]) or [None] * workers) as crew:
        while waiting or crew.busy:
            while waiting and crew.has_room():
                if crew.give(waiting[0], tasks[waiting[0]]):
                    waiting.popleft()
            for k, done, value in crew.answers():
                if done:
                    yield tasks[k], value
                    continue
                failures[k] += 1
                tell(failure(tasks[k], value, failures[k]))
                if failures[k] <= RETRIES:
                    waiting.append(k)
                else:
                    yield tasks[k], value


class Crew:
    """The workers of a pool; they begin when there is something to do for them."""

    def __init__(self, function: Callable[[Any], Any], places: Sequence[str | None]) -> None:
        self.function, self.free = function, list(places)[::-1]
        self.idle: list[Worker] = []
        self.busy: dict[Connection, tuple[Worker, int]] = {}

    def has_room(self) -> bool:
        """Whether one more task can be done now."""
        return bool(self.idle or self.free)

    def give(self, k: int, task: object) -> bool:
        """Hand over task number k; False if the worker has died since its last one."""
        worker = self.idle.pop() if self.idle else hire(self.function, self.free.pop())
        try:
            worker.line.send((task,))
        except OSError:
            self.bury(worker)
            return False
        self.busy[worker.line] = worker, k
        return True

    def answers(self) -> Iterator[tuple[int, bool, Any]]:
        """Wait for some: number of the task, whether it was done, and the result or the error."""
        for line in wait(list(self.busy)):
            worker, k = self.busy.pop(line)
            try:
                done, value = line.recv()
            except (EOFError, OSError):
                yield k, False, WorkerDiedError(self.bury(worker))
            else:
                self.idle.append(worker)
                yield k, done, value

    def bury(self, worker: Worker) -> str:
        """Make room for another; says how this one ended."""
        worker.line.close()
        worker.process.join()
        self.free.append(worker.gpu)
        status = worker.process.exitcode or 0
        kind = f"was killed by {signal.Signals(-status).name}" if status < 0 else "ended"
        hint = " (out of memory?)" if status == -signal.SIGKILL else ""
        kind += hint if status < 0 else f" with exit status {status}"
        return f"its worker, process {worker.process.pid}, {kind}"

    def dismiss(self, now: bool) -> None:
        """All come home: at once, with what they have, or when their task is done."""
        everyone = [*self.idle, *(worker for worker, _ in self.busy.values())]
        try:
            for worker in everyone:
                with suppress(OSError):
                    worker.line.send(None)
                if now and worker.process.pid is not None:
                    os.kill(worker.process.pid, signal.SIGINT)
            for worker in everyone:
                with suppress(EOFError, OSError):
                    while True:  # an answer that nobody reads would keep it from ending
                        worker.line.recv_bytes()
                worker.process.join()
        except KeyboardInterrupt:  # a second one
            for worker in everyone:
                worker.process.kill()
            raise


@contextmanager
def crew_of(function: Callable[[Any], Any], places: Sequence[str | None]) -> Iterator[Crew]:
    """Workers, each with its GPU; Ctrl-C reaches each once, by the signal here."""
    crew = Crew(function, places)
    try:
        yield crew
    except BaseException:
        crew.dismiss(now=True)
        raise
    crew.dismiss(now=False)


def hire(function: Callable[[Any], Any], gpu: str | None) -> Worker:
    """A new process, which is deaf to Ctrl-C until it has a task."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, os.getpid(), gpu, function))
    resource_tracker.ensure_running()  # which process.start would do, and let Ctrl-C in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Worker(process, ours, gpu)


def work(line: Connection, parent: int, gpu: str | None, function: Callable[[Any], Any]) -> None:
    """In a new worker: do what comes, until nothing more does, or the parent is no more."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a kill would leave behind
    if gpu is not None:
        os.environ[VISIBLE] = gpu  # is read when the first tensor is sent there
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    with suppress(EOFError, OSError):
        while (given := line.recv()) is not None:
            line.send_bytes(answer(function, given[0], line))


def end_with(parent: int) -> None:
    """End this process when its parent is no more, as after a kill."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def answer(function: Callable[[Any], Any], task: object, line: Connection) -> bytes:
    """Whether the task was done, and the result or the error, as they are sent."""
    try:
        return pickle.dumps((True, interruptible(function, task, line)))
    except BaseException as error:
        found: BaseException = error
    try:
        pickle.loads(sent := pickle.dumps((False, found)))
    except Exception:  # an error of a kind that does not survive the way
        sent = pickle.dumps((False, RuntimeError(repr(found))))
    return sent


def interruptible(function: Callable[[Any], Any], task: object, line: Connection) -> Any:
    """In a worker: the task, which Ctrl-C ends. Between two tasks a worker has nothing to end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if line.poll():  # it was dismissed, and the signal came before there was a task
            raise KeyboardInterrupt
        return function(task)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
