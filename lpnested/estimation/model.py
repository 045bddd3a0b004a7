"""A distribution as a function of one vector: the parameters that a module learns, in a row."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints, transform_to

from lpnested.lp_nested import LpNested
from lpnested.nn import Learnable
from lpnested.radii import parameters_of

__all__ = ["Model", "Slot"]

_LARGEST = 300.0  # of a logarithm: beyond, scales and exponents are no float64 any more


class Slot(NamedTuple):
    """One learned parameter and where it stands in the vector."""

    path: str  # of the parameter in the module
    name: str  # in results, such as radial.scale
    event_shape: torch.Size
    start: int
    stop: int
    constraint: constraints.Constraint
    is_logits: bool

    def of(self, vector: Tensor) -> Tensor:
        """The unconstrained value, shape ``(*batch, *event_shape)``."""
        part = vector[..., self.start : self.stop]
        if self.constraint is not constraints.real:
            part = part.clamp(-_LARGEST, _LARGEST)
        return part.reshape((*vector.shape[:-1], *self.event_shape))

    def constrained(self, vector: Tensor) -> Tensor:
        value: Tensor = transform_to(self.constraint)(self.of(vector))
        return value


class Model:
    """A distribution as a function of a vector ``(*batch, size)`` of unconstrained numbers.

    Positive parameters are there as their logarithms, a location in units of the spread of the
    data (:meth:`measure`), so that no step depends on their scale. ``free`` are the places that
    the distribution depends on: without the exponents of nodes with one child, and without the
    last logit of a mixture.
    """

    def __init__(self, module: Learnable, batch: torch.Size, device: torch.device) -> None:
        self.module = copy.deepcopy(module).to(device=device, dtype=torch.float64)
        self.batch = batch
        own = self.module().batch_shape
        if own not in (torch.Size(), batch):
            raise ValueError(
                f"data of batch shape {tuple(batch)} are as many data sets, each with parameters "
                f"of its own, so the distribution must have that batch shape or (), but it has "
                f"{tuple(own)}"
            )
        self.slots = list(self._slots())
        if not self.slots:
            raise ValueError("there is no parameter to estimate: name them in learn=(...)")
        parts = [self._start(slot) for slot in self.slots]
        self.start = torch.cat(parts, -1)
        self.offset, self.unit = torch.zeros_like(self.start), torch.ones_like(self.start)
        self.free = self._free()
        if not self.free:
            raise ValueError(
                "there is no parameter to estimate: the density depends on none of those that "
                "are learned, such as the exponent of a node with one child"
            )
        self.names = [name for slot in self.slots for name in _names(slot)]

    def measure(self, name: str, offset: Tensor, unit: Tensor) -> None:
        """Count a real parameter from an offset on in these units, shape ``(*batch)``."""
        for k in self.places(name):
            self.offset[..., k], self.unit[..., k] = offset, unit
            self.start[..., k] = (self.start[..., k] - offset) / unit

    def __call__(self, vector: Tensor) -> Distribution:
        """The distribution, unvalidated, of batch shape ``vector.shape[:-1]``."""
        numbers = self.offset + self.unit * vector
        parameters = {slot.path: slot.of(numbers) for slot in self.slots}
        dist: Distribution = torch.func.functional_call(self.module, parameters, ())
        dist._validate_args = False
        return dist

    def made_of(self, values: Tensor, dtype: torch.dtype) -> Distribution:
        """The distribution of these parameters (:meth:`constrained`), validated, in a dtype."""
        parameters = {
            slot.name: _representable(values[..., slot.start : slot.stop], slot, dtype).reshape(
                (*values.shape[:-1], *slot.event_shape)
            )
            for slot in self.slots
        }
        return _made(self.module, parameters, "", dtype)

    def constrained(self, vector: Tensor) -> Tensor:
        """The parameters themselves, in the same places."""
        vector = self.offset + self.unit * vector
        parts = [slot.constrained(vector).reshape(*vector.shape[:-1], -1) for slot in self.slots]
        return torch.cat(parts, -1)

    def slopes(self, vector: Tensor) -> Tensor:
        """The derivatives of the parameters in the numbers of the vector."""
        vector = vector.detach().requires_grad_()
        return torch.autograd.grad(self.constrained(vector).sum(), vector)[0]

    def places(self, name: str) -> list[int]:
        """The places of a parameter in the vector; none if it is not learned."""
        return [
            k for slot in self.slots if slot.name == name for k in range(slot.start, slot.stop)
        ]

    def put(self, vector: Tensor, values: dict[str, Tensor]) -> Tensor:
        """The vector with these parameters in it."""
        parts = list(vector.split([slot.stop - slot.start for slot in self.slots], -1))
        for k, slot in enumerate(self.slots):
            if slot.name in values:
                shape = (*self.batch, *slot.event_shape)
                new = transform_to(slot.constraint).inv(values[slot.name].expand(shape))
                new = new.reshape(*self.batch, -1)
                parts[k] = new - new[..., -1:] + parts[k][..., -1:] if slot.is_logits else new
        return torch.cat(parts, -1)

    def _slots(self) -> Iterator[Slot]:
        stop = 0
        for module, prefix, extra in _modules(self.module, "", 0):
            for name, value in module.unconstrained.items():
                constraint = module._constraint(name)
                dims = constraint.event_dim + extra
                shape = value.shape[value.dim() - dims :]
                if not transform_to(constraint).bijective:
                    raise ValueError(
                        f"{prefix}{name} can't be estimated, as {constraint} has fewer free "
                        f"numbers than parameters: estimate logits instead"
                    )
                start, stop = stop, stop + shape.numel()
                path, logits = f"{prefix}unconstrained.{name}", module.distribution is Categorical
                yield Slot(path, prefix + name, shape, start, stop, constraint, logits)

    def _start(self, slot: Slot) -> Tensor:
        value = self.module.get_parameter(slot.path).detach()
        return value.expand((*self.batch, *slot.event_shape)).reshape(*self.batch, -1).clone()

    def _free(self) -> list[int]:
        """The places that move an exponent of a node with several children, or what else is."""
        vector = self.start.clone().requires_grad_()
        dist, unused = self(vector), {slot.stop - 1 for slot in self.slots if slot.is_logits}
        if isinstance(dist, LpNested):
            single = [len(row) == 1 for row in dist.tree.children]
            several = [not x for x in single]
            others = dist.exponents[..., several].sum() + sum(
                x.sum() for x in parameters_of(dist.radial)
            )
            only = dist.exponents[..., single].sum()
            moved = [_moved(x, vector) for x in (only, others)]
            unused |= {k for k, (a, b) in enumerate(zip(*moved, strict=True)) if a and not b}
        return [k for k in range(vector.shape[-1]) if k not in unused]


def _modules(module: Learnable, prefix: str, extra: int) -> Iterator[tuple[Learnable, str, int]]:
    """A module and those that are its parameters; mixtures have a dimension of components."""
    yield module, prefix, extra
    for name in module.names:
        child = dict(module.named_children()).get(name)
        if isinstance(child, Learnable):
            yield from _modules(
                child, f"{prefix}{name}.", extra + (name == "component_distribution")
            )


def _made(
    module: Learnable, parameters: dict[str, Tensor], prefix: str, dtype: torch.dtype
) -> Distribution:
    arguments: dict[str, Any] = {}
    for name in module.names:
        value: Any = parameters.get(prefix + name)
        value = getattr(module, name) if value is None else value
        if isinstance(value, Learnable):
            value = _made(value, parameters, f"{prefix}{name}.", dtype)
        elif isinstance(value, Tensor) and value.is_floating_point():
            value = value.to(dtype)
        arguments[name] = value
    return module.distribution(*module.args, **arguments)


def _representable(values: Tensor, slot: Slot, dtype: torch.dtype) -> Tensor:
    """The values in the dtype, without overflow; positive ones stay positive."""
    limits = torch.finfo(dtype)
    rounded = values.clamp(-limits.max, limits.max).to(dtype)
    lost = (rounded == 0) & (values > 0) & (slot.constraint is not constraints.real)
    return rounded.masked_fill(lost, limits.tiny)


def _names(slot: Slot) -> list[str]:
    count = slot.stop - slot.start
    return [slot.name] if count == 1 else [f"{slot.name}[{k}]" for k in range(count)]


def _moved(x: Tensor, vector: Tensor) -> list[bool]:
    if not x.requires_grad:
        return [False] * vector.shape[-1]
    slope = torch.autograd.grad(x, vector, allow_unused=True, retain_graph=True)[0]
    if slope is None:
        return [False] * vector.shape[-1]
    moved: list[bool] = (slope != 0).reshape(-1, vector.shape[-1]).any(0).tolist()
    return moved
