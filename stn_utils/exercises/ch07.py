"""Chapter 07: returns, a policy gradient, and a set of moves."""

import torch

from ..actions import Move, matrices
from ..warp import invert
from . import checker, expect_shape, hunter, quiz


@checker
def check_discounted(discounted):
    """discounted(rewards, gamma) -> returns, both (T, B)."""
    rewards = torch.tensor([[1.0, 0], [0, 2], [4, -1]], dtype=torch.float64)
    got = discounted(rewards, 0.5)
    expect_shape(got, (3, 2), "the returns")
    wanted = torch.tensor(
        [[1 + 4 / 4, 2 / 2 - 1 / 4], [4 / 2, 2 - 1 / 2], [4, -1]], dtype=torch.float64
    )
    assert not torch.allclose(got, rewards.flip(0).cumsum(0).flip(0)), (
        "Later rewards count less: where is gamma?"
    )
    backwards = torch.stack(
        [sum(0.5 ** (2 - t) * rewards[t] for t in range(s, 3)) for s in range(3)]
    )
    assert not torch.allclose(got, backwards), (
        "The exponent runs backwards: the nearest reward counts in full."
    )
    assert not torch.allclose(got[0], wanted[0]) or torch.allclose(got, wanted), (
        "Each step has its own sum, from there on."
    )
    assert torch.allclose(got, wanted), (
        f"Rewards {rewards[:, 0].tolist()} with gamma 0.5: {wanted[:, 0].tolist()}."
    )
    assert torch.allclose(discounted(rewards, 0.0), rewards), (
        "With gamma 0 a return is the reward alone."
    )


def _exact(logits, reward_of):
    """The gradient of the expected reward of one step, counted out over all moves."""
    logits = logits.clone().requires_grad_()
    expected = (logits.softmax(dim=1) * reward_of).sum(dim=1).mean()
    return torch.autograd.grad(expected, logits)[0]


def _estimated(surrogate, logits, reward_of):
    """Minus the surrogate's gradient, all moves weighed by their probability: no draw, no noise."""
    total = torch.zeros_like(logits)
    for move in range(logits.shape[1]):
        z = logits.clone().requires_grad_()
        chosen = torch.full((len(z),), move)
        rewards = reward_of[:, move].clone().requires_grad_()
        (slope,) = torch.autograd.grad(surrogate([z], [chosen], [rewards]), z, allow_unused=True)
        if slope is not None:
            total -= slope * logits.softmax(dim=1)[:, [move]]
    return total


def _cases():
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(size, dtype=torch.float64, generator=random)
        for size in ((3, 4), (3, 4), (3, 4))
    )


def _ignores_moves(surrogate):
    logits, reward_of, _ = _cases()
    reward = [reward_of[:, 0]]
    a, b = (surrogate([logits], [torch.full((3,), move)], reward) for move in (0, 1))
    if torch.allclose(torch.as_tensor(a), torch.as_tensor(b)):
        return (
            "another move with the same reward gives the same loss: what was chosen does not enter"
        )
    return None


def _ignores_early_steps(surrogate):
    first, reward_of, last = _cases()
    first = first.requires_grad_()
    moves = [torch.zeros(3, dtype=torch.long)] * 2
    loss = surrogate([first, last.requires_grad_()], moves, [reward_of[:, 0], reward_of[:, 1]])
    (slope,) = torch.autograd.grad(loss, first, allow_unused=True)
    return (
        "the first step's logits get no gradient: only the last one learns"
        if slope is None or not slope.any()
        else None
    )


def _is_not_the_gradient(surrogate):
    logits, reward_of, _ = _cases()
    wanted, got = _exact(logits, reward_of), _estimated(surrogate, logits, reward_of)
    if torch.allclose(got, -wanted):
        return "it is the gradient with the wrong sign: minimising it looks for bad moves"
    return (
        None
        if torch.allclose(got, wanted)
        else "on one step, the mean over all moves is not the exact gradient"
    )


def _discounts_backwards(surrogate):
    """A reward in the last of three steps should weigh gamma^2 for the first step's choice."""
    logits = [torch.zeros(1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    moves, nothing, one = [torch.tensor([0])] * 3, torch.zeros(1).double(), torch.ones(1).double()
    (late,) = torch.autograd.grad(
        surrogate(logits, moves, [nothing, nothing, one], 0.5), logits[0], allow_unused=True
    )
    (soon,) = torch.autograd.grad(
        surrogate(logits, moves, [one, nothing, nothing], 0.5), logits[0], allow_unused=True
    )
    if late is None or soon is None or not torch.allclose(late, soon / 4):
        return "with gamma 0.5, a reward two steps later should weigh a quarter of one at once"
    return None


def _is_a_sum(surrogate):
    """A second step without a reward should halve what the first teaches: a mean over steps."""
    logits, reward_of, _ = _cases()
    moves, slopes = torch.zeros(3, dtype=torch.long), []
    for steps in (1, 2):
        z = logits.clone().requires_grad_()
        rewards = [reward_of[:, 0], torch.zeros(3, dtype=torch.float64)][:steps]
        slopes += torch.autograd.grad(
            surrogate([z, logits][:steps], [moves] * steps, rewards, 1.0), z, allow_unused=True
        )
    if slopes[0] is not None and slopes[1] is not None and torch.allclose(*slopes):
        return "two steps should count half each: the mean over steps, not the sum"
    return None


FAULTS = (_ignores_moves, _ignores_early_steps, _is_not_the_gradient, _discounts_backwards)


hunt = hunter(
    FAULTS
)  # prints what is wrong with a policy loss: surrogate(logits, chosen, rewards, gamma=0.98)


@checker
def check_surrogate(surrogate):
    """surrogate(logits, chosen, rewards, gamma) -> the loss whose gradient is the policy's."""
    for look in (*FAULTS, _is_a_sum):
        fault = look(surrogate)
        assert fault is None, f"{fault[0].upper()}{fault[1:]}."


def partner(actions: list[Move], number: int, tolerance: float = 1e-5) -> int | None:
    """The number of the move that takes move `number` back, None if there is none."""
    moves = matrices(actions)
    distance = (moves - invert(moves[[number]])).flatten(1).abs().max(dim=1).values
    return int(distance.argmin()) if distance.min() < tolerance else None


@checker
def check_my_moves(my_moves):
    """my_moves() -> [(name, theta (1, 2, 3)), ...], closed, with the identity."""
    moves = my_moves()
    assert len(moves) >= 5, f"At least five moves, not {len(moves)}."
    for name, theta in moves:
        expect_shape(theta, (1, 2, 3), f"the theta of {name!r}")
    try:
        matrices(moves)
    except ValueError as error:
        raise AssertionError(str(error)) from None
    alone = [name for number, (name, _) in enumerate(moves) if partner(moves, number) is None]
    assert not alone, f"No move takes {', '.join(map(repr, alone))} back."


answer = quiz({
    "past": ("c", {
        "a": "They may be larger than all that follow.",
        "b": "A discount weighs later rewards less. It takes no earlier one away.",
        "c": "They are known before the draw, and the slope of log pi is zero in the mean.",
        "d": "It holds without any critic.",
    }),
    "baseline": ("b", {
        "a": "Then it could not leave the mean over moves: the gradient would be another.",
        "b": "All that is known before the draw multiplies a mean of zero, so the gradient stays.",
        "c": "The reward follows from the move: subtract it, and nothing is left to learn from.",
        "d": "A constant is allowed, but so is a guess for each picture and step: a critic.",
    }),
    "oracle": ("a", {
        "a": "It has found them, though by reading the label, which no policy can do.",
        "b": "The oracle knows the answer before it moves. No training gives that to a policy.",
        "c": "It looks one move ahead: a plan of six moves may beat it.",
        "d": "The two classifiers were not compared on the same views.",
    }),
})  # fmt: skip
