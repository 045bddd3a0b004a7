"""Run tasks with Ray, on one machine or a cluster, as pool.py does with local processes; and list
the GPUs and start the executor of this machine.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from sweeps.pool import (
    ONE_THREAD,
    RETRIES,
    VISIBLE,
    Outcome,
    Result,
    Task,
    exit_with_parent,
    failure,
    in_pool,
    print_message,
)

__all__ = ["ONE_THREAD", "VISIBLE", "Outcome", "gpu_slots", "in_pool", "in_ray", "pool_of"]


@contextmanager
def pool_of(workers: int) -> Iterator[ProcessPoolExecutor]:
    """An executor whose processes have sessions of their own, so Ctrl-C does not reach them."""
    context, initargs = get_context("spawn"), (os.getpid(),)
    pool = ProcessPoolExecutor(workers, context, initializer=init_worker, initargs=initargs)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def init_worker(parent: int) -> None:
    """Initialise a new process of an executor."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=exit_with_parent, args=(parent,), daemon=True).start()


def gpu_slots(share: float) -> list[str]:
    """The visible GPUs of this machine, each repeated once per run that can share it.

    The first slots are on different GPUs, so that a few runs do not crowd onto one.
    """
    names = os.environ.get(VISIBLE, "").split(",")
    count = torch.cuda.device_count()  # respects VISIBLE
    names = [name.strip() for name in names if name.strip()] or [str(k) for k in range(count)]
    return names[:count] * max(1, int(1 / share))


def in_ray(
    tasks: Sequence[Task],
    function: Callable[[Task], Result],
    address: str | None,
    workers: int | None,
    threads: int,
    gpus: float,
    report: Callable[[str], None] = print_message,
) -> Iterator[Outcome[Task, Result]]:
    """Like `in_pool`, with cores and a share of a GPU for each task, here or at `address`."""
    import ray

    cores = workers * threads if workers else max(threads, os.cpu_count() or 1)
    own = {} if address else {"num_cpus": cores, "include_dashboard": False}
    folder = str(Path(__file__).resolve().parents[1])
    environment: dict[str, Any] = {"env_vars": ONE_THREAD}
    if address:  # the other machines have the package installed, and receive the example
        environment["working_dir"] = folder
    else:
        environment["env_vars"] = ONE_THREAD | {"PYTHONPATH": folder}
    ray.init(address=address or "local", runtime_env=environment, log_to_driver=False, **own)
    failures = Counter[int]()
    try:
        remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(
            lambda task: function(task)
        )
        references = {remote.remote(task): k for k, task in enumerate(tasks)}
        while references:
            for reference in ray.wait(list(references), num_returns=1)[0]:
                k = references.pop(reference)
                try:
                    yield tasks[k], ray.get(reference)
                    continue
                except ray.exceptions.RayError as raised:
                    error = raised
                failures[k] += 1
                report(failure(tasks[k], error, failures[k]))
                if failures[k] <= RETRIES:
                    references[remote.remote(tasks[k])] = k
                else:
                    yield tasks[k], error
    finally:
        ray.shutdown()
