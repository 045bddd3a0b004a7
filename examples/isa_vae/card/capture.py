"""Three ways to take a step: as it is, as one CUDA graph, and as one of fused kernels.

A graph replays a step as a single launch, where hundreds of small kernels would wait for Python.
Compiling first fuses what lies between the products. Where one of them fails, or is slower, the
next one serves: the numbers are the same to rounding.
"""

from collections.abc import Callable

import torch
from card.loop import Training

WARM_UP = 3  # steps before a capture, in which libraries take their memory

Advance = Callable[[], None]


def eager(training: Training) -> Advance:
    """Each operation as it comes."""
    return training.step


def graph(training: Training) -> Advance:
    """The captured step; the training is begun anew, for the warm-up has moved it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            training.step()
    torch.cuda.current_stream().wait_stream(stream)
    training.optimiser.zero_grad()  # gradients are made within the graph, in its own memory
    captured, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(captured):
            training.step()
    finally:
        torch.cuda.set_stream(before)  # which a capture that fails at its end leaves behind
    captured.replay()
    torch.cuda.synchronize()  # a replay that fails fails here
    training.begin(training.stack.seeds)
    return captured.replay


def compiled_graph(training: Training) -> Advance:
    """The same, of kernels that torch.compile has fused."""
    training.terms = torch.compile(training.stack.terms, dynamic=False, fullgraph=True)
    return graph(training)


ENGINES: dict[str, Callable[[Training], Advance]] = {
    "compiled graph": compiled_graph,
    "graph": graph,
    "eager": eager,
}
