"""A transformer that chooses its warp move by move, and learns from rewards which to choose."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..actions import Move, matrices
from ..layers import SpatialTransformerBase
from ..names import one_of
from ..spec import Size
from ..warp import Number, at_least_single, compose, identity, on_shape
from .nets import Conv, Net, Trace, map_size

CONTROLS = ("identity", "random")  # what may choose the moves, and learns nothing
POLICIES = ("learned", "without-memory", "without-critic", *CONTROLS)
CLIP = 2.0  # largest reward of one move, in units of the classification loss
VALUE_WEIGHT = 0.5  # of the critic's loss
# The golden ratio's bits, as a signed number: an odd one, far from round.
MIX = 0x9E3779B97F4A7C15 - 2**64

State = tuple[Tensor, Tensor]  # of an LSTM cell


class Policy(nn.Module):
    """Choose among moves: from an image, the last move and a state to logits, a value and a state.

    An image is (B, C, *size), a move (B, K) with a one at its number, logits are (B, K), values
    (B,).

    Two convolutions and an LSTM cell, whose state is carried through a rollout. All moves are
    equally likely at the start.
    """

    def __init__(self, channels: int, size: Size, count: int, conv: Conv = nn.Conv2d) -> None:
        super().__init__()
        hidden = 64
        height, width = map_size(size, 5, 5)
        self.features = nn.Sequential(
            conv(channels, 8, 5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            conv(8, 16, 5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(16 * height * width, hidden),
            nn.ReLU(inplace=True),
        )
        self.cell = nn.LSTMCell(hidden + count, hidden)
        self.choice, self.value = nn.Linear(hidden, count), nn.Linear(hidden, 1)
        nn.init.zeros_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)

    def forward(
        self, seen: Tensor, last_move: Tensor, state: State | None
    ) -> tuple[Tensor, Tensor, State]:
        """One step: what the moves are worth, and what it remembers."""
        state = self.cell(torch.cat([self.features(seen), last_move], dim=1), state)
        return self.choice(state[0]), self.value(state[0])[:, 0], state


class Rollout(NamedTuple):
    """T moves from the untouched window on.

    thetas and views: T + 1 of each, (B, 2, 3) and (B, C, h, w).

    logits (B, K), values (B,) and the moves chosen (B,): T of each; values are empty where no
    policy is asked.
    """

    thetas: list[Tensor]
    views: list[Tensor]
    logits: list[Tensor]
    values: list[Tensor]
    moves: list[Tensor]


class ReinforcedTransformer(SpatialTransformerBase):
    """Warp images (B, C, H, W) to `size` by `steps` moves; the original is sampled once.

    The moves' matrices are composed.

    actions: [(name, theta), ...], see `actions`. kind: learned asks the policy, in training by
    drawing from it and else by its likeliest move; without-memory drops its state before every
    move, without-critic is for `ReinforcedNet`. The others are controls and take no policy:
    identity never moves; random draws evenly, in evaluation by a hash of each image, so always the
    same. Raises ValueError for steps below 1 and for moves that `actions.matrices` refuses.
    """

    moves: Tensor

    def __init__(
        self,
        policy: Policy | None,
        actions: list[Move],
        steps: int,
        size: Size,
        padding: str = "zeros",
        background: Number = 0.0,
        kind: str = "learned",
    ) -> None:
        super().__init__(size, padding, background, steps)
        self.policy = policy
        self.kind = one_of("policy", kind, POLICIES)
        self.register_buffer("moves", matrices(actions))
        stays = self.moves.eq(identity()).all(dim=(1, 2))
        self.still = int(stays.nonzero()[0])  # the number of the move that is none

    def _choose(self, logits, hashes):
        if self.kind == "identity":
            return torch.full_like(hashes, self.still)
        if self.kind == "random":
            count = len(self.moves)
            return torch.randint_like(hashes, count) if self.training else hashes % count
        if not self.training:
            return logits.argmax(dim=1)
        # What torch.multinomial draws; that one waits, and fails at nan.
        chances = logits.softmax(dim=1)
        return (chances / torch.empty_like(chances).exponential_()).argmax(dim=1)

    def rollout(self, x: Tensor) -> Rollout:
        """Make `steps` moves on x (B, C, H, W)."""
        theta = at_least_single(identity(x.shape[0], x.device, x.dtype))
        last_move, state = x.new_zeros(x.shape[0], len(self.moves)), None
        moves = on_shape(self.moves, (x.shape[2], x.shape[3]))
        hashes = (256 * x).long().sum(dim=(1, 2, 3))
        found = Rollout([theta], [self.warp_through(x, theta)], [], [], [])
        for _ in range(self.steps):
            logits = torch.zeros_like(last_move)
            if self.policy:
                before = None if self.kind == "without-memory" else state
                logits, value, state = self.policy(found.views[-1], last_move, before)
                found.values.append(value)
            hashes = _mixed(hashes)
            move = self._choose(logits, hashes)
            last_move = F.one_hot(move, len(self.moves)).to(x.dtype)
            theta = compose(theta, moves[move])
            found.thetas.append(theta)
            found.views.append(self.warp_through(x, theta))
            found.logits.append(logits)
            found.moves.append(move)
        return found

    def trace(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The theta after each move as (B, 6), and what the last one shows."""
        found = self.rollout(x)
        return [theta.flatten(1) for theta in found.thetas[1:]], found.views[-1]


def _mixed(hashes):
    """Whole numbers (B,) that look drawn at random, and are the same for the same numbers."""
    hashes = (hashes + 1) * MIX
    return (hashes ^ (hashes >> 29)) * MIX >> 33 & 0x7FFFFFFF


def returns(rewards: Tensor, gamma: float) -> Tensor:
    """Discounted sums of rewards (T, B) from each step to the end (T, B)."""
    total, found = torch.zeros_like(rewards[0]), []
    for reward in reversed(rewards):
        total = reward + gamma * total
        found.append(total)
    return torch.stack(found[::-1])


def policy_loss(logits: list[Tensor], moves: list[Tensor], advantages: Tensor) -> Tensor:
    """-mean of log pi(move) * advantage over steps and images: its gradient is REINFORCE's.

    logits: T tensors (B, K); moves: T tensors (B,), those drawn; advantages: (T, B), taken as
    numbers. Source: Williams 1992.
    """
    chances = F.log_softmax(torch.stack(list(logits)), dim=2)
    taken = chances.gather(2, torch.stack(list(moves))[..., None])[..., 0]
    return -(taken * advantages.detach()).mean()


def entropy(logits: list[Tensor]) -> Tensor:
    """Entropy of each step's choice for each image (T, B), in nats; logits: T tensors (B, K)."""
    chances = F.log_softmax(torch.stack(list(logits)), dim=2)
    return -(chances.exp() * chances).sum(dim=2)


class ReinforcedNet(Net):
    """A Net whose transformer is a ReinforcedTransformer, and a policy that learns beside it.

    Reward of a move: by how much it lowers the image's classification loss, within +-CLIP. The
    classifier learns from the last view alone; the policy by `policy_loss` with the critic as
    baseline, advantages divided by their deviation, and its entropy as a bonus for staying
    undecided. parts: those of a Net. gamma: discount; entropy_bonus: weight of the entropy. Source:
    in the spirit of Azimi et al. 2021.
    """

    transformer: ReinforcedTransformer

    def __init__(self, *parts: Any, gamma: float = 0.98, entropy_bonus: float = 0.05) -> None:
        super().__init__(*parts)
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma: expected 0 to 1, got {gamma}.")
        if not 0 <= entropy_bonus < float("inf"):
            raise ValueError(f"entropy: expected a finite number from 0 on, got {entropy_bonus}.")
        self.gamma, self.entropy_bonus = gamma, entropy_bonus

    @torch.no_grad()
    def _losses(self, views, y):
        """The classification loss of every view (T + 1, B), dropout off."""
        was = self.classifier.training
        self.classifier.eval()
        try:
            losses = [F.cross_entropy(self.classify(v), y, reduction="none") for v in views]
        finally:
            self.classifier.train(was)
        return torch.stack(losses)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of classifier, policy and critic on images x with labels y (B,)."""
        found = self.transformer.rollout(self.normalize(x))
        of_classifier = F.cross_entropy(self.classify(found.views[-1]), y)
        if self.transformer.kind in CONTROLS:
            return of_classifier
        losses = self._losses(found.views, y)
        rewards = (losses[:-1] - losses[1:]).clamp(-CLIP, CLIP)
        values, goal = torch.stack(found.values), returns(rewards, self.gamma)
        if self.transformer.kind == "without-critic":
            values = torch.zeros_like(goal)  # no baseline, and nothing to learn for one
        advantages = (goal - values).detach()
        advantages = advantages / advantages.std(correction=0).clamp(min=1e-6)
        of_policy = policy_loss(found.logits, found.moves, advantages)
        bonus = self.entropy_bonus * entropy(found.logits).mean()
        return of_classifier + (of_policy - bonus) + VALUE_WEIGHT * F.mse_loss(values, goal)

    def trace(self, x: Tensor) -> Trace:
        """As `Net.trace`; metrics: the policy's entropy, and the share of each move, move_0, ..."""
        found = self.transformer.rollout(self.normalize(x))
        parameters = [theta.flatten(1) for theta in found.thetas[1:]]
        metrics = {}
        if self.transformer.kind not in CONTROLS:
            count = len(self.transformer.moves)
            shares = F.one_hot(torch.stack(found.moves), count).float().mean(dim=0)
            metrics["entropy"] = entropy(found.logits).mean(dim=0)
            metrics |= {f"move_{i}": shares[:, i] for i in range(count)}
        return Trace(self.classify(found.views[-1]), parameters, found.views[-1], metrics)

    @torch.no_grad()
    def oracle(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits (B, classes) after `steps` moves, each the best for the label y, a move ahead."""
        x = self.normalize(x)
        theta = identity(x.shape[0], x.device, x.dtype)
        moves = on_shape(self.transformer.moves, (x.shape[2], x.shape[3]))
        see, rows = self.transformer.warp_through, torch.arange(x.shape[0])
        for _ in range(self.transformer.steps):
            candidates = [compose(theta, move.expand_as(theta)) for move in moves]
            losses = self._losses([see(x, candidate) for candidate in candidates], y)
            theta = torch.stack(candidates)[losses.argmin(dim=0), rows]
        return self.classify(see(x, theta))
