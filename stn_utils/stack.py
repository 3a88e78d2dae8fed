"""Networks that are alike, as one: a GPU that a small net leaves idle trains many seeds at once."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from .models import Net


class Loss(nn.Module):
    """A network whose call is its loss."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net.loss(x, y)


class Stack(nn.Module):
    """S networks of the same build. Every parameter has one dimension more, (S, ...).

    An optimizer takes them as they are: SGD and Adam treat every number by itself. nets: at least
    one; they are copied. Source: PyTorch's notes on model ensembling.
    """

    def __init__(self, nets: Sequence[Net]) -> None:
        super().__init__()
        stacked, _ = stack_module_state([Loss(net) for net in nets])
        self.one = Loss(copy.deepcopy(nets[0]))
        for name, values in stacked.items():
            place, _, last = name.rpartition(".")
            own = nn.Parameter(values.detach().clone(), values.requires_grad)  # some are frozen
            setattr(self.one.get_submodule(place), last, own)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss (S,) of each net on images of its own, x (S, B, C, H, W) and y (S, B)."""

        def of_one(parameters, x, y):
            return functional_call(self.one, parameters, (x, y))

        mapped = vmap(of_one, randomness="different")
        return mapped(dict(self.one.named_parameters()), x, y)

    def clip_gradients(self, norm: float) -> None:
        """Cut the gradient of each net to this norm."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        squares = sum(g.flatten(1).square().sum(dim=1) for g in gradients)
        share = (norm / (torch.as_tensor(squares).sqrt() + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(share.view(-1, *(1,) * (gradient.ndim - 1)))

    def state_of(self, number: int) -> dict[str, Tensor]:
        """The state of one of the nets, for its load_state_dict."""
        parameters = {name: p[number] for name, p in self.one.net.named_parameters()}
        return {**self.one.net.state_dict(), **parameters}
