"""Distributions with learned parameters, as modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution, constraints, transform_to

from lpnested.digits import parameter_repr
from lpnested.precision import as_parameter, result_dtype

__all__ = ["Learnable"]


class Learnable(nn.Module):
    r"""A module that owns the parameters of a distribution and returns it when called.

    A learned parameter is stored unconstrained, by the inverse of torch's ``transform_to`` (the
    logarithm, for a positive parameter), so that any optimiser step keeps it valid; ``module.p``
    is the constrained value. All other parameters are buffers, so that ``state_dict``,
    ``to(device)`` and ``double()`` include them. Initial values are copied.

    The module can be created on the meta device and filled later, by ``to_empty`` and
    ``load_state_dict``; initial values are not validated then. In half precision (``half()``,
    ``bfloat16()``) the distributions of this package reject its parameters;
    ``torch.autocast`` leaves them unchanged.

    Args:
        distribution: A distribution class, or a function that returns a distribution, such as
            :meth:`lpnested.ISA.unit_variance`.
        *args: Positional arguments that are not tensors, such as sizes or a tree.
        learn: The names of the parameters to learn.
        **parameters: The initial parameters, numbers or tensors, or another ``Learnable`` for a
            parameter that is itself a distribution, such as the radial of
            :class:`lpnested.LpNested`.

    Raises:
        ValueError: If ``learn`` has a name that is not a parameter or has no constraint, or if an
            initial value violates its constraint.

    Example:
        >>> import torch
        >>> from lpnested import ISA
        >>> prior = Learnable(ISA, [4, 4], p0=2.0, p=torch.full((2,), 2.1), learn=("p",))
        >>> loss = -prior().log_prob(torch.randn(100, 8)).mean()
        >>> loss.backward()
        >>> [name for name, _ in prior.named_parameters()], prior.p.detach()
        (['unconstrained.p'], tensor([2.1000, 2.1000]))
    """

    def __init__(
        self,
        distribution: Callable[..., Distribution],
        *args: Any,
        learn: Sequence[str] = (),
        **parameters: Any,
    ) -> None:
        super().__init__()
        self.distribution, self.args = distribution, args
        self.names = tuple(parameters)
        self.unconstrained = nn.ParameterDict()
        learn = (learn,) if isinstance(learn, str) else tuple(learn)
        own = [name for name, value in parameters.items() if not isinstance(value, nn.Module)]
        unknown = [name for name in learn if name not in own]
        if unknown:
            raise ValueError(f"learn names {unknown}, but the parameters are {own}")
        known = [name for name in own if name in self._constraints()]
        numbers = (int, float, list, tuple)
        like = [
            as_parameter(name, parameters[name])
            for name in known
            if not isinstance(parameters[name], numbers)
        ]
        for name, value in parameters.items():
            if name in learn:
                self.unconstrained[name] = self._unconstrain(name, value, like)
            elif name in known:
                self.register_buffer(name, as_parameter(name, value, like).detach().clone())
            else:
                self._store_fixed(name, value)

    def _store_fixed(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            self.add_module(name, value)
        elif isinstance(value, Distribution):
            raise TypeError(
                f"{name} is a distribution, whose tensors would belong to no module: pass a "
                f"Learnable({type(value).__name__}, ...), with learn=() to keep it fixed"
            )
        else:
            setattr(self, name, value)

    def _constraints(self) -> dict[str, constraints.Constraint]:
        # A classmethod such as ISA.unit_variance has the constraints of its class.
        owner = getattr(self.distribution, "__self__", self.distribution)
        known: dict[str, constraints.Constraint] = getattr(owner, "arg_constraints", {})
        return known

    def _constraint(self, name: str) -> constraints.Constraint:
        if name not in self._constraints():
            raise ValueError(f"{name} has no constraint, so it can't be learned")
        return self._constraints()[name]

    def _unconstrain(self, name: str, initial: Any, like: Sequence[Tensor]) -> nn.Parameter:
        constraint = self._constraint(name)
        value = as_parameter(name, initial, like).detach()
        value = value.to(result_dtype(value))  # an integer can't be learned
        value = value.reshape((1,) * max(0, constraint.event_dim - value.dim()) + value.shape)
        if not value.is_meta and (not constraint.check(value).all() or value.isinf().any()):
            raise ValueError(f"{name} must satisfy {constraint} and be finite, but got {value}")
        return nn.Parameter(transform_to(constraint).inv(value).clone())

    def __getattr__(self, name: str) -> Any:
        unconstrained = self.__dict__.get("_modules", {}).get("unconstrained", {})
        if name in unconstrained:
            return transform_to(self._constraint(name))(unconstrained[name])
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_modules", {}).get("unconstrained", {}):
            raise AttributeError(
                f"{name} is learned: set unconstrained.{name}, its unconstrained value, instead"
            )
        super().__setattr__(name, value)

    def forward(self) -> Distribution:
        values = {name: getattr(self, name) for name in self.names}
        return self.distribution(
            *self.args,
            **{
                name: value() if isinstance(value, nn.Module) else value
                for name, value in values.items()
            },
        )

    def extra_repr(self) -> str:
        name = getattr(self.distribution, "__qualname__", repr(self.distribution))
        learned = [f"{key}: {parameter_repr(getattr(self, key))}" for key in self.unconstrained]
        return f"{name}, {self.args}, learned: {', '.join(learned) or 'nothing'}"
