"""The CoordConv paper's own test, without pictures: given (x, y), name the pixel. Liu et al. 2018, section 4.1.

On a canvas of 64x64, a 9x9 square fits with its centre on 56x56 places. A network sees some of the centres and is asked
for the others: a fifth of them, drawn at random (uniform), or all in one quadrant.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .experiment import one_of
from .layers import CoordConv2d

SQUARE = 9  # pixels; the side of the square that is never drawn here, but says which centres exist
SPLITS = ("uniform", "quadrant")


def centres(canvas=64):
    """All places (N, 2) of a fully visible square's centre, as whole pixels (x, y)."""
    inside = torch.arange(SQUARE // 2, canvas - SQUARE // 2)
    return torch.cartesian_prod(inside, inside)


def split(points, how, canvas=64, seed=0):
    """Part centres (N, 2) into those to learn from and those held out.

    how: uniform holds out a random fifth, quadrant those in the lower right, both coordinates above half the canvas.
    """
    one_of("split", how, SPLITS)
    if how == "uniform":
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
        held_out = order < len(points) // 5
    else:
        held_out = (points > canvas / 2).all(dim=1)
    return points[~held_out], points[held_out]


def examples(points, canvas=64):
    """What a network gets, centres (N, 2) from -1 to 1 as in `layers.coordinates`, and its answer: the pixel's number (N,)."""
    return 2 * points.float() / (canvas - 1) - 1, points[:, 1] * canvas + points[:, 0]


def coordconv_net(canvas=64):
    """The paper's CoordConv network, (B, 2) -> one logit a pixel (B, canvas^2): 7,553 parameters at any size."""
    widths = [32, 64, 64, 1]
    layers = [nn.Unflatten(1, (2, 1, 1)), nn.Upsample(canvas), CoordConv2d(2, 32, 1)]  # the two numbers at every pixel
    for before, after in zip([32, *widths], widths):
        layers += [nn.ReLU(inplace=True), nn.Conv2d(before, after, 1)]
    return nn.Sequential(*layers, nn.Flatten())


def deconv_net(canvas=64):
    """The paper's narrowest deconvolution network, kernel 4, (B, 2) -> one logit a pixel (B, canvas^2); canvas a power of 2."""
    doublings = (canvas - 1).bit_length()
    widths = [64] * (doublings - 3) + [32] * 2
    layers = [nn.Unflatten(1, (2, 1, 1))]
    for before, after in zip([2, *widths], widths):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 1, 4, 2, 1), nn.Flatten())


@torch.no_grad()
def answers(net, points, canvas=64):
    """For centres (N, 2): whether their pixel gets the largest logit, and the probability it gets; both (N,)."""
    net.eval()
    x, right = examples(points, canvas)
    chances = torch.cat([net(part).softmax(dim=1) for part in x.split(256)])
    return chances.argmax(dim=1) == right, chances.gather(1, right[:, None])[:, 0]


def learn(net, known, held_out, epochs, lr, canvas=64, batch_size=16, until_perfect=False):
    """Train with Adam; after every epoch, yield (epoch, train loss, accuracy on known, accuracy on held_out centres).

    The rate falls to a tenth every 200 epochs, as in the paper's runs. until_perfect: end once both are 1. Seed torch before.
    """
    optimizer = torch.optim.Adam(net.to(memory_format=torch.channels_last).parameters(), lr)  # a third faster on a CPU
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 200, 0.1)
    x, y = examples(known, canvas)
    for epoch in range(1, epochs + 1):
        net.train()
        total = 0.0
        for index in torch.randperm(len(known)).split(batch_size):
            loss = F.cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
        schedule.step()
        scores = [answers(net, points, canvas)[0].float().mean().item() for points in (known, held_out)]
        yield epoch, total / len(known), *scores
        if until_perfect and min(scores) == 1:
            return
