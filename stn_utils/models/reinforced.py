"""A transformer that chooses its warp move by move, and learns the choice from rewards, not through the sampler."""

import torch
import torch.nn.functional as F
from torch import nn

from ..actions import matrices
from ..experiment import choices, one_of
from ..layers import Transformer
from ..warp import compose, identity
from .nets import Net, after_two_convs

CLIP = 2.0  # largest reward of one move, in units of the classification loss
VALUE_WEIGHT = 0.5  # of the critic's loss


class Policy(nn.Module):
    """Choose among moves: image (B, C, side, side), last move (B, K) and state -> logits (B, K), value (B,) and state.

    Two convolutions and an LSTM cell, whose state is carried through an episode. All moves are equally likely at the start.
    """

    def __init__(self, channels, side, count, conv=nn.Conv2d):
        super().__init__()
        hidden = 64
        left = after_two_convs(side, 5, 5)
        self.features = nn.Sequential(
            conv(channels, 8, 5), nn.MaxPool2d(2), nn.ReLU(inplace=True),
            conv(8, 16, 5), nn.MaxPool2d(2), nn.ReLU(inplace=True),
            nn.Flatten(), nn.Linear(16 * left * left, hidden), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.cell = nn.LSTMCell(hidden + count, hidden)
        self.choice, self.value = nn.Linear(hidden, count), nn.Linear(hidden, 1)
        nn.init.zeros_(self.choice.weight), nn.init.zeros_(self.choice.bias)

    def forward(self, seen, last_move, state):
        state = self.cell(torch.cat([self.features(seen), last_move], dim=1), state)
        return self.choice(state[0]), self.value(state[0])[:, 0], state


class ReinforcedTransformer(Transformer):
    """Warp images (B, C, H, W) to `size` by `steps` moves; the matrices are composed and the original sampled once.

    actions: [(name, theta), ...], see `actions`. kind: learned asks the policy, in training by drawing from it and else by
    its likeliest move. The others are controls and take no policy: identity never moves; random draws evenly, in
    evaluation always the same for the same batch.
    Raises ValueError for steps below 1 and for moves that `actions.matrices` refuses.
    """

    def __init__(self, policy, actions, steps, size, padding="zeros", background=0.0, kind="learned"):
        super().__init__(size, padding, background, steps)
        self.policy = policy
        self.kind = one_of("policy", kind, choices("policy"))
        self.register_buffer("moves", matrices(actions))
        self.still = (self.moves == identity()).all(dim=(1, 2)).nonzero()[0].item()  # the number of the move that is none

    def _choose(self, logits, generator):
        if self.kind == "identity":
            return torch.full((len(logits),), self.still, device=logits.device)
        if self.kind == "random":
            where = "cpu" if generator else logits.device
            return torch.randint(len(self.moves), (len(logits),), generator=generator, device=where).to(logits.device)
        if not self.training:
            return logits.argmax(dim=1)
        chances = logits.softmax(dim=1)  # what torch.multinomial draws; that one waits for the device, and fails at nan
        return (chances / torch.empty_like(chances).exponential_()).argmax(dim=1)

    def episode(self, x):
        """Play `steps` moves; returns thetas and views, steps + 1 of each from the untouched one on, and per step
        logits (B, K), values (B,) and the moves chosen (B,).
        """
        theta, state = identity(len(x), x.device, x.dtype), None
        last_move = x.new_zeros(len(x), len(self.moves))
        thetas, views, logits, values, chosen = [theta], [self.view(x, theta)], [], [], []
        fixed = self.kind == "random" and not self.training
        generator = torch.Generator().manual_seed(int((256 * x).long().sum())) if fixed else None  # a batch's own
        for _ in range(self.steps):
            logit, value = torch.zeros_like(last_move), None
            if self.policy:
                logit, value, state = self.policy(views[-1], last_move, state)
            move = self._choose(logit, generator)
            last_move = F.one_hot(move, len(self.moves)).to(x.dtype)
            theta = compose(theta, self.moves[move])
            thetas.append(theta)
            views.append(self.view(x, theta))
            logits, values, chosen = [*logits, logit], [*values, value], [*chosen, move]
        return thetas, views, logits, values, chosen

    def looks(self, x):
        """The list of theta (B, 2, 3), one per move; the last one decides."""
        return self.episode(x)[0][1:]

    def forward(self, x):
        return self.episode(x)[1][-1]


def returns(rewards, gamma):
    """Discounted sums of rewards (T, B) from each step to the end (T, B)."""
    total, found = torch.zeros_like(rewards[0]), []
    for reward in reversed(rewards):
        total = reward + gamma * total
        found.append(total)
    return torch.stack(found[::-1])


def policy_loss(logits, chosen, advantages):
    """-mean of log pi(move) * advantage over steps and images: its gradient is REINFORCE's.

    logits: T tensors (B, K); chosen: T tensors (B,), the moves drawn; advantages: (T, B), taken as numbers.
    Source: Williams 1992.
    """
    chances = F.log_softmax(torch.stack(list(logits)), dim=2)
    taken = chances.gather(2, torch.stack(list(chosen))[..., None])[..., 0]
    return -(taken * advantages.detach()).mean()


def entropy(logits):
    """Mean entropy over steps and images, in nats; logits: a list of (B, K)."""
    chances = F.log_softmax(torch.stack(list(logits)), dim=2)
    return -(chances.exp() * chances).sum(dim=2).mean()


class ReinforcedNet(Net):
    """A Net whose transformer is a ReinforcedTransformer: its loss is the classifier's and, for a policy that learns, its own.

    Reward of a move: by how much it lowers the image's classification loss, within +-CLIP. The classifier learns from the
    last view alone; the policy by `policy_loss` with the critic as baseline, advantages divided by their deviation, and
    `entropy` as a bonus for staying undecided. gamma: discount. Source: in the spirit of Azimi et al. 2021.
    """

    def __init__(self, before, transformer, after, classifier, gamma=0.98, entropy=0.05):
        super().__init__(before, transformer, after, classifier)
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma: expected 0 to 1, got {gamma}.")
        if not 0 <= entropy < float("inf"):
            raise ValueError(f"entropy: expected a finite number from 0 on, got {entropy}.")
        self.gamma, self.entropy = gamma, entropy

    @torch.no_grad()
    def _losses(self, views, y):
        """The classification loss of every view (T + 1, B), dropout off."""
        was = self.classifier.training
        self.classifier.eval()
        try:
            return torch.stack([F.cross_entropy(self.classifier(self.after(v)), y, reduction="none") for v in views])
        finally:
            self.classifier.train(was)

    def loss(self, x, y):
        _, views, logits, values, chosen = self.transformer.episode(self.before(x))
        of_classifier = F.cross_entropy(self.classifier(self.after(views[-1])), y)
        if self.transformer.kind != "learned":
            return of_classifier
        losses = self._losses(views, y)
        rewards = (losses[:-1] - losses[1:]).clamp(-CLIP, CLIP)
        values, goal = torch.stack(values), returns(rewards, self.gamma)
        advantages = (goal - values).detach()
        advantages = advantages / advantages.std(correction=0).clamp(min=1e-6)
        of_policy = policy_loss(logits, chosen, advantages) - self.entropy * entropy(logits)
        return of_classifier + of_policy + VALUE_WEIGHT * F.mse_loss(values, goal)

    def notes(self, x):
        """The policy's entropy, and the share of every move among those it prefers: move_0, move_1, ..."""
        if self.transformer.kind != "learned":
            return {}
        *_, logits, _, chosen = self.transformer.episode(self.before(x))
        shares = F.one_hot(torch.stack(chosen).flatten(), len(self.transformer.moves)).float().mean(dim=0)
        return {"entropy": entropy(logits), **{f"move_{i}": share for i, share in enumerate(shares)}}

    @torch.no_grad()
    def oracle(self, x, y):
        """Logits (B, classes) after `steps` moves that are each the best one for the label y, one move ahead."""
        x = self.before(x)
        theta, moves = identity(len(x), x.device, x.dtype), self.transformer.moves
        for _ in range(self.transformer.steps):
            candidates = [compose(theta, move.expand(len(x), 2, 3)) for move in moves]
            losses = self._losses([self.transformer.view(x, candidate) for candidate in candidates], y)
            theta = torch.stack(candidates)[losses.argmin(dim=0), torch.arange(len(x))]
        return self.classifier(self.after(self.transformer.view(x, theta)))
