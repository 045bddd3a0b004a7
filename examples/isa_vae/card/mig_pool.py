"""The gaps of trained models by CPU processes, while the next models train on the GPU."""

import os
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from data.dsprites_drawn import all_classes
from data.pictures import Pictures
from numpy.typing import NDArray
from running.scoring import Measured, disentanglement_scores
from sweeps.engines import ONE_THREAD, pool_of


@cache
def labels(stride: int) -> Pictures:
    """The factors of every `stride`-th of the drawn pictures, without the pictures."""
    classes = all_classes()[::stride]
    return Pictures(np.zeros((len(classes), 0), np.uint8), classes, "drawn")


def warm_up(stride: int) -> None:
    """In a new process, before it has anything to do."""
    labels(stride)


def gaps_of(stride: int, mean: NDArray[np.float32], std: NDArray[np.float32]) -> dict[str, Any]:
    """What scoring.py makes of the posteriors, with one thread."""
    torch.set_num_threads(1)
    pictures = labels(stride)
    posteriors = torch.from_numpy(mean), torch.from_numpy(std)
    classes = torch.from_numpy(pictures.classes)
    return disentanglement_scores(*posteriors, classes, pictures, progress=False)


class Gaps:
    """Hands posteriors to the processes; without any, or where they fail, it works itself.

    Args:
        pool: Of processes, or None.
        stride: Of the pictures that are used, 1 for all.
    """

    def __init__(self, pool: Any, stride: int) -> None:
        self.pool, self.stride = pool, stride

    def submit(self, found: Measured) -> "Future[dict[str, Any]]":
        """A result to come."""
        arrays = found.mean.numpy(), found.std.numpy()
        if self.pool is not None:
            try:
                return self.pool.submit(gaps_of, self.stride, *arrays)
            except BrokenProcessPool:
                self.pool = None
        return done(self.stride, *arrays)

    def result(self, future: "Future[dict[str, Any]]", found: Measured) -> dict[str, Any]:
        """The scores; computed here after all where the processes have died."""
        try:
            return future.result()
        except BrokenProcessPool:
            self.pool = None
            return done(self.stride, found.mean.numpy(), found.std.numpy()).result()


def done(stride: int, mean: NDArray[np.float32], std: NDArray[np.float32]) -> Any:
    """The result of `gaps_of`, or its error, as a future."""
    future: Future[dict[str, Any]] = Future()
    threads = torch.get_num_threads()
    try:
        future.set_result(gaps_of(stride, mean, std))
    except Exception as error:
        future.set_exception(error)
    finally:
        torch.set_num_threads(threads)
    return future


@contextmanager
def processes(workers: int, stride: int) -> Iterator[Gaps]:
    """That many of them, in which each has imported what it needs before it is needed."""
    if workers < 1:
        yield Gaps(None, stride)
        return
    os.environ.update(ONE_THREAD)  # for them; torch is imported here already
    with pool_of(workers) as pool:
        for _ in range(workers):
            pool.submit(warm_up, stride)
        yield Gaps(pool, stride)
