"""Two ways to run many tasks: a pool of processes, and Ray, on one machine or on a cluster.

Both take tasks and a function, and yield each task with its result, or with the error that it
ended with for good. A worker that dies takes nothing with it but the run it was at, which is
tried again.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED as FIRST
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Outcome = tuple[Task, Result | BaseException]

RETRIES = 2  # of a task whose worker died or that raised


def in_pool(
    tasks: list[Task], function: Callable[[Task], Result], workers: int
) -> Iterator[Outcome[Task, Result]]:
    """Run the tasks in that many processes, one thread each."""
    os.environ.update(ONE_THREAD)  # for the workers, who read them when they import torch
    waiting, failures = list(tasks), [0] * len(tasks)
    number = {id(task): k for k, task in enumerate(tasks)}
    while waiting:
        # In sessions of their own, so that Ctrl-C reaches them once, by the signal below.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=os.setsid)
        futures: dict[Future[Result], Task] = {}
        broken = False
        try:
            while (waiting or futures) and not broken:
                while waiting and len(futures) < workers:  # so that few are lost if a worker dies
                    task = waiting.pop(0)
                    futures[pool.submit(function, task)] = task
                for future in wait(futures, return_when=FIRST).done:
                    task, error = futures.pop(future), future.exception()
                    broken = broken or isinstance(error, BrokenProcessPool)
                    if error is None:
                        yield task, future.result()
                        continue
                    failures[number[id(task)]] += 1
                    if failures[number[id(task)]] > RETRIES:
                        yield task, error
                    else:
                        waiting.append(task)
            waiting = [*futures.values(), *waiting]  # what was running beside the dead worker
        except BaseException:  # Ctrl-C: let the workers keep what they have, and come home
            for process in active_children():
                if process.pid is not None:
                    os.kill(process.pid, signal.SIGINT)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


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
    gpus: float,
) -> Iterator[Outcome[Task, Result]]:
    """Run the tasks with Ray: a core and a share of a GPU each, here or where `address` says."""
    import ray

    own = {} if address else {"num_cpus": workers, "include_dashboard": False}
    folder = os.path.dirname(os.path.abspath(__file__))
    environment: dict[str, Any] = {"env_vars": ONE_THREAD}
    if address:  # the other machines have our package, and are sent the example
        environment["working_dir"] = folder
    else:
        environment["env_vars"] = ONE_THREAD | {"PYTHONPATH": folder}
    ray.init(address=address, runtime_env=environment, log_to_driver=False, **own)
    try:
        options = {"num_gpus": gpus, "max_retries": RETRIES, "retry_exceptions": True}
        remote = ray.remote(num_cpus=1, **options)(lambda task: function(task))
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
