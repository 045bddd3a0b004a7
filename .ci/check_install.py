"""Whether an installed package works: ``python .ci/check_install.py kernels``.

Or ``reference``, which says what is to serve CPUs. It needs nothing but the package.
"""

import sys

import torch

import lpnested

served = lpnested.backends()["cpu"]
assert served.startswith(sys.argv[1]), served
z = torch.randn(1000, 20, requires_grad=True)
normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(20), 1.0), 1)
isa = lpnested.ISA([4] * 5, p0=2.0, p=2.0, scale=2**0.5)
densities = [dist.log_prob(z) for dist in (isa, normal)]
torch.testing.assert_close(*densities)
torch.testing.assert_close(*(torch.autograd.grad(x.sum(), z)[0] for x in densities))
assert 0.9 < isa.sample((10_000,)).var() < 1.1
print(lpnested.__file__, served)
