"""Two ways to run many tasks: a pool of processes, and Ray, on one machine or on a cluster.

Both take tasks and a function, and yield each task with its result, or with the error that it
ended with for good. A worker that dies takes nothing with it but the run it was at, which is
tried again.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED as FIRST
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")
Outcome = tuple[Task, Result | BaseException]

worker_state: dict[str, Event] = {}  # of this process, where it is a worker of the pool
RETRIES = 2  # of a task whose worker died or that raised


def in_pool(
    tasks: list[Task],
    function: Callable[[Task], Result],
    workers: int,
    gpus: Sequence[str] = (),
) -> Iterator[Outcome[Task, Result]]:
    """Run the tasks in that many processes, with one thread each unless they ask for more.

    Where GPUs are named, each process sees one of them: one for every process, so that a GPU that
    several are to share is named several times.

    When a worker dies, nobody knows which task it was: those that were running are tried again one
    at a time, so that a task that kills its worker is told from its neighbours.
    """
    os.environ.update(ONE_THREAD)  # for the workers, who read them when they import torch
    waiting, suspects = list(tasks), list[Task]()
    failures: dict[int, int] = {}
    while waiting or suspects:
        limit, queue = (1, suspects) if suspects else (workers, waiting)
        running: dict[Future[Result], Task] = {}
        with pool_of(limit, gpus) as pool:
            broken = False
            while (queue or running) and not broken:
                while queue and len(running) < limit:  # so that few are lost if a worker dies
                    try:
                        running[pool.submit(interruptible, function, queue[0])] = queue[0]
                    except BrokenProcessPool:  # one died since the last task was submitted
                        broken = True
                        break
                    del queue[0]
                ended = wait(running, return_when=FIRST).done
                broken |= any(isinstance(f.exception(), BrokenProcessPool) for f in ended)
                for future in ended:
                    task, error = running.pop(future), future.exception()
                    if error is None:
                        yield task, future.result()
                    elif isinstance(error, BrokenProcessPool) and limit > 1:
                        suspects.append(task)
                    elif failures.setdefault(id(task), 0) < RETRIES:
                        failures[id(task)] += 1
                        queue.append(task)
                    else:
                        yield task, error
            suspects += running.values()


@contextmanager
def pool_of(workers: int, gpus: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    """Processes in sessions of their own, so that Ctrl-C reaches each once, by the signal here."""
    context = get_context("spawn")
    free = context.SimpleQueue() if gpus else None
    for gpu in gpus[:workers]:
        free.put(gpu)
    stopping = context.Event()
    pool = ProcessPoolExecutor(
        workers, context, initializer=begin_worker, initargs=(os.getpid(), stopping, free)
    )
    try:
        yield pool
    except BaseException:  # let the workers keep what they have, and come home
        stopping.set()
        for process in active_children():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def begin_worker(parent: int, stopping: Event, free: "SimpleQueue[str] | None") -> None:
    """In a new worker: it takes a GPU, and ends when its parent is no more, as after a kill."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker_state["stopping"] = stopping
    if free is not None:
        os.environ[VISIBLE] = free.get()  # is read when the first tensor is sent there

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def interruptible(function: Callable[[Task], Result], task: Task) -> Result:
    """In a worker: the task, which Ctrl-C ends. Between two tasks a worker has nothing to end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if worker_state["stopping"].is_set():  # the signal came before there was a task
            raise KeyboardInterrupt
        return function(task)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def gpu_slots(share: float) -> list[str]:
    """The GPUs of this machine that this process may see, as often as each can be shared.

    The first slots are on different GPUs, so that few runs do not crowd on one.
    """
    names = os.environ.get(VISIBLE, "").split(",")
    count = torch.cuda.device_count()  # of those that VISIBLE leaves
    names = [name.strip() for name in names if name.strip()] or [str(k) for k in range(count)]
    return names[:count] * max(1, int(1 / share))


VISIBLE = "CUDA_VISIBLE_DEVICES"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def in_ray(
    tasks: list[Task],
    function: Callable[[Task], Result],
    address: str | None,
    workers: int | None,
    threads: int,
    gpus: float,
) -> Iterator[Outcome[Task, Result]]:
    """Run the tasks with Ray, each on its cores and its share of a GPU, here or at `address`."""
    import ray

    cores = workers * threads if workers else max(threads, os.cpu_count() or 1)
    own = {} if address else {"num_cpus": cores, "include_dashboard": False}
    folder = os.path.dirname(os.path.abspath(__file__))
    environment: dict[str, Any] = {"env_vars": ONE_THREAD}
    if address:  # the other machines have our package, and are sent the example
        environment["working_dir"] = folder
    else:
        environment["env_vars"] = ONE_THREAD | {"PYTHONPATH": folder}
    ray.init(address=address or "local", runtime_env=environment, log_to_driver=False, **own)
    try:
        options = {"num_gpus": gpus, "max_retries": RETRIES, "retry_exceptions": True}
        remote = ray.remote(num_cpus=threads, **options)(lambda task: function(task))
        references = {remote.remote(task): task for task in tasks}
        while references:
            for reference in ray.wait(list(references), num_returns=1)[0]:
                task = references.pop(reference)
                try:
                    yield task, ray.get(reference)
                except ray.exceptions.RayError as error:
                    yield task, error
    finally:
        ray.shutdown()
