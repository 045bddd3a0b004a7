"""Compute the gaps of trained models on CPU processes while the next ones train on the GPU."""

import os
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.dsprites_drawn import all_classes
from data.pictures import Pictures
from running.scoring import Measured, disentanglement_scores
from sweeps.engines import ONE_THREAD, pool_of


@cache
def labels(stride: int) -> Pictures:
    """The factors of every `stride`-th rendered image, without the images."""
    classes = all_classes()[::stride]
    return Pictures(np.zeros((len(classes), 0), np.uint8), classes, "drawn")


def warm_up(stride: int) -> None:
    """Prepare a new process before its first task."""
    labels(stride)


def compute_gaps(
    stride: int, mean: NDArray[np.float32], std: NDArray[np.float32]
) -> dict[str, Any]:
    """Compute the disentanglement scores of posteriors, on one thread."""
    torch.set_num_threads(1)
    pictures = labels(stride)
    posteriors = torch.from_numpy(mean), torch.from_numpy(std)
    classes = torch.from_numpy(pictures.classes)
    return disentanglement_scores(*posteriors, classes, pictures, progress=False)


class Gaps:
    """Computes gaps on a process pool, or in this process if there is none or it fails.

    Args:
        pool: Process pool, or None.
        stride: Stride of the images that are used, 1 for all.
    """

    def __init__(self, pool: Any, stride: int) -> None:
        self.pool, self.stride = pool, stride

    def submit(self, found: Measured) -> "Future[dict[str, Any]]":
        """Start the computation, and return a future."""
        arrays = found.mean.numpy(), found.std.numpy()
        if self.pool is not None:
            try:
                return self.pool.submit(compute_gaps, self.stride, *arrays)
            except BrokenProcessPool:
                self.pool = None
        return completed_future(self.stride, *arrays)

    def result(self, future: "Future[dict[str, Any]]", found: Measured) -> dict[str, Any]:
        """The scores; computed in this process if the workers have died."""
        try:
            return future.result()
        except BrokenProcessPool:
            self.pool = None
            return completed_future(self.stride, found.mean.numpy(), found.std.numpy()).result()


def completed_future(stride: int, mean: NDArray[np.float32], std: NDArray[np.float32]) -> Any:
    """Compute `compute_gaps` in this process, and return its result or error as a future."""
    future: Future[dict[str, Any]] = Future()
    threads = torch.get_num_threads()
    try:
        future.set_result(compute_gaps(stride, mean, std))
    except Exception as error:
        future.set_exception(error)
    finally:
        torch.set_num_threads(threads)
    return future


@contextmanager
def gap_workers(workers: int, stride: int) -> Iterator[Gaps]:
    """Start worker processes, which import everything in advance."""
    if workers < 1:
        yield Gaps(None, stride)
        return
    os.environ.update(ONE_THREAD)  # for the workers; torch is already imported here
    with pool_of(workers) as pool:
        for _ in range(workers):
            pool.submit(warm_up, stride)
        yield Gaps(pool, stride)
