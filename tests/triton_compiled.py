"""The kernels compile for cards, which needs none, and which the interpreter does not show."""

import re
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lpnested.ops.triton_calls import _OPTIONS
from lpnested.ops.triton_kernels import density, norm
from lpnested.ops.triton_sums import add_up, weigh

REALS = {"value", "exponents", "dim", "p", "scale", "scratch", "result", "gradient", "slopes"}
REALS |= {"in_value", "in_parameters", "weights"}


def compiled(function: Any, real: str, **constants: int) -> str:
    """The assembly for a card of compute capability 8.0."""
    types = {**dict.fromkeys(REALS, f"*{real}"), "structure": "*i32", "sums": "*fp64"}
    if function is norm:
        types |= {"weights": "*fp64", "result": "*fp64"}
    names = function.arg_names
    signature = {x: "constexpr" if x in constants else types.get(x, "i32") for x in names}
    places = {(names.index(x),): number for x, number in constants.items()}
    source = ASTSource(fn=function, signature=signature, constexprs=places)
    target = GPUTarget("cuda", 80, 32)
    text: str = triton.compile(source, target=target, options=_OPTIONS).asm["ptx"]
    return text


@pytest.mark.parametrize("real", ["fp32", "fp64"])
def test_the_density_and_its_backward_pass_compile(real: str) -> None:
    lanes = {"SAMPLES": 16, "BATCH": 4}
    formed = {"COLUMNS": 8, "IN_VALUE": True, "SLOPES": True}
    radius = {"RADIUS": True, "HAS_DIM": True}
    assert compiled(density, real, **lanes, **formed, HAS_DIM=True)
    assert compiled(weigh, real, **lanes, **formed, RADIUS=True, WEIGHTED=True)
    assert compiled(add_up, real, **lanes, **radius)


def test_per_row_nothing_of_float32_is_float64() -> None:
    """Of float64 are the weights of a norm, and they are only taken apart."""
    lanes = {"SAMPLES": 64, "BATCH": 1, "COLUMNS": 8}
    text = compiled(norm, "fp32", **lanes, VALUE=False, IN_VALUE=True, SLOPES=True)
    assert re.search(r"\bfma\S*\.f32", text)
    assert not re.search(r"\b(add|sub|mul|fma|div)\S*\.f64", text)
