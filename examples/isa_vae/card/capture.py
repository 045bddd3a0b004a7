"""Three ways to take a training step: eagerly, as a CUDA graph, and as a graph of fused kernels.

A graph replays a step as a single launch, while hundreds of small kernels would wait for Python.
Compiling first fuses the operations between matrix products. If one of these fails or is slower,
the next one is used; the results are equal up to rounding.
"""

from collections.abc import Callable

import torch

from card.loop import Training

WARM_UP = 3  # steps before a capture, in which libraries allocate their memory

Advance = Callable[[], None]


def eager(training: Training) -> Advance:
    """Run each operation as it is issued."""
    return training.step


def graph(training: Training) -> Advance:
    """Capture the step as a CUDA graph; resets the training, which the warm-up has changed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            training.step()
    torch.cuda.current_stream().wait_stream(stream)
    training.optimiser.zero_grad()  # so that gradients are allocated in the graph's own memory
    captured, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(captured):
            training.step()
    finally:
        torch.cuda.set_stream(before)  # a capture that fails at its end does not restore it
    captured.replay()
    torch.cuda.synchronize()  # a failing replay raises here
    training.reset(training.stack.seeds)
    return captured.replay


def compiled_graph(training: Training) -> Advance:
    """Capture a graph of kernels fused by torch.compile."""
    training.terms = torch.compile(training.stack.terms, dynamic=False, fullgraph=True)
    return graph(training)


ENGINES: dict[str, Callable[[Training], Advance]] = {
    "compiled graph": compiled_graph,
    "graph": graph,
    "eager": eager,
}
