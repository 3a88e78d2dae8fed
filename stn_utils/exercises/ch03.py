"""Chapter 03: how far a step moves theta, parameter groups, clipping."""

import torch
from torch import nn

from . import checker, expect_shape, quiz


@checker
def check_moved(moved):
    """moved(g, h, other, lr) -> how far one SGD step on one picture moves the theta of another."""
    random = torch.Generator().manual_seed(0)
    h, other = torch.rand(2, 8, dtype=torch.float64, generator=random)
    g = torch.randn(6, dtype=torch.float64, generator=random)
    last = nn.Linear(8, 6).double()
    before = last(other).detach()
    (last(h) * g).sum().backward()
    torch.optim.SGD(last.parameters(), lr=0.3).step()
    wanted = (last(other) - before).detach()
    got = moved(g, h, other, 0.3)
    expect_shape(got, (6,), "the movement")
    assert not torch.allclose(got, -wanted), "The sign: a step goes against the gradient."
    assert not torch.allclose(got, -0.3 * g * (h @ other)), "The bias moves as well."
    assert not torch.allclose(got, -0.3 * g * (1 + h @ h)), (
        "That is how far the first picture's own theta moves."
    )
    assert torch.allclose(got, wanted), (
        "W moves by -lr g h^T and b by -lr g; put both into W h' + b."
    )


@checker
def check_groups(groups):
    """groups(net, lr, ratio) -> an optimizer's groups; net has .localization and .classifier."""
    net = nn.Module()
    net.localization, net.classifier = (
        nn.Linear(3, 6),
        nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2)),
    )
    chosen = torch.optim.SGD(groups(net, 0.5, 0.1), lr=7.0)
    rate = {id(p): group["lr"] for group in chosen.param_groups for p in group["params"]}
    assert len(rate) == len(list(net.parameters())), (
        "Every parameter should stand in one of the groups."
    )
    assert all(abs(rate[id(p)] - 0.05) < 1e-9 for p in net.localization.parameters()), (
        "Localization: lr times ratio."
    )
    assert all(abs(rate[id(p)] - 0.5) < 1e-9 for p in net.classifier.parameters()), (
        "Everything else: lr."
    )


@checker
def check_clip(clip):
    """clip(gradients, limit) -> the gradients, all scaled alike so that their common norm is at
    most limit.
    """
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(*shape, dtype=torch.float64, generator=random) for shape in ((3, 4), (5,))]
    kept = [g.clone() for g in given]
    got = clip(given, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(given, kept)), (
        "Leave the given tensors as they are; return new ones."
    )
    for result, g in zip(got, given):
        expect_shape(result, g.shape, "a clipped gradient")
    norm = torch.cat([g.flatten() for g in got]).norm().item()
    assert abs(norm - 1) < 1e-3, (
        f"All together they should have norm 1, not {norm:.3f}: one factor for all of them."
    )
    factor = got[0] / given[0]
    assert torch.allclose(factor, factor.mean()), (
        "Clip the norm, not each number: the direction should stay."
    )
    assert torch.allclose(clip(given, 1e3)[0], given[0]), (
        "Gradients within the limit should stay as they are."
    )


answer = quiz({
    "adam": ("c", {
        "a": "Adam's step hardly depends on the gradient's size.",
        "b": "That is SGD: its step is as large as the gradient.",
        "c": "Each weight moves by about its rate, whatever the size of the gradient.",
        "d": "Only gradients that are zero for long bring its steps to zero.",
    }),
    "plain": ("a", {
        "a": "Where a window sees padding alone, the sampler's gradient is exactly zero.",
        "b": "The loss is high there, but flat.",
        "c": "The rate is what it was.",
        "d": "Activations can be large or small there; without a gradient they are of no use.",
    }),
})  # fmt: skip
