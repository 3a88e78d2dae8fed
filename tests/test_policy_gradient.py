"""REINFORCE: returns, entropy and the policy gradient against the exact one, by enumeration."""

import itertools
import math

import pytest
import torch
from tiny_policy import numbers

from stn_utils.models.reinforced import entropy, policy_loss, returns

# ---- returns and entropy, by hand ----

REWARDS = [[1.0, 0], [0, 2], [4, -1]]


@pytest.mark.parametrize(
    "gamma, wanted",
    [(0.0, REWARDS), (1.0, [[5, 1], [4, 1], [4, -1]]), (0.5, [[2, 0.75], [2, 1.5], [4, -1]])],
)
def test_a_return_is_the_reward_and_what_is_discounted_behind_it(gamma, wanted):
    for rewards in (torch.tensor(REWARDS), list(torch.tensor(REWARDS))):
        assert torch.equal(returns(rewards, gamma), torch.tensor(wanted))


def test_returns_are_the_sums_of_their_definition():
    rewards, gamma = numbers(6, 4), 0.9
    wanted = torch.stack(
        [sum(gamma ** (t - start) * rewards[t] for t in range(start, 6)) for start in range(6)]
    )
    torch.testing.assert_close(returns(rewards, gamma), wanted)
    assert torch.equal(returns(rewards[:1], gamma), rewards[:1])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_entropy_of_the_undecided_is_the_logarithm_of_their_number(count):
    for level in (0.0, -7.0, 100.0):
        assert entropy([torch.full((5, count), level)] * 3).mean().item() == pytest.approx(
            math.log(count), abs=1e-6
        )


def test_the_entropy_is_the_mean_over_steps_and_images_of_sums_by_hand():
    halves, sure = torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor([0.0, -1e4, -1e4])
    assert entropy([halves[None]]).mean().item() == pytest.approx(1.5 * math.log(2))
    assert entropy([sure[None]]).mean().item() == 0
    mixed = [torch.stack([halves, sure]), torch.stack([sure, sure])]
    assert entropy(mixed).mean().item() == pytest.approx(1.5 * math.log(2) / 4)


# ---- the policy gradient ----


def two_steps():
    """A problem of two steps and three moves: what is preferred first, then after each first move, and the rewards."""
    return numbers(3, seed=1), numbers(3, 3, seed=2), numbers(3, seed=3), numbers(3, 3, seed=4)


def weighed_gradients(gamma, baseline=(0.0, 0.0)):
    """Gradients of -policy_loss, averaged over all nine trajectories weighed by their chances; nothing is drawn."""
    first, second, reward_1, reward_2 = two_steps()
    total_1, total_2 = torch.zeros_like(first), torch.zeros_like(second)
    for a, b in itertools.product(range(3), repeat=2):
        chance = first.softmax(0)[a] * second[a].softmax(0)[b]
        one, two = first.clone().requires_grad_(), second.clone().requires_grad_()
        gains = returns(torch.stack([reward_1[a], reward_2[a, b]])[:, None], gamma)
        gains = gains - torch.tensor(baseline)[:, None]
        loss = policy_loss([one[None], two[a][None]], [torch.tensor([a]), torch.tensor([b])], gains)
        loss.backward()
        total_1 -= 2 * chance * one.grad  # the loss is a mean over two steps
        total_2 -= 2 * chance * two.grad
    return total_1, total_2


def exact_gradients(gamma):
    """Gradients of the expected return from the first step on, and of the expected second reward."""
    first, second, reward_1, reward_2 = two_steps()
    first.requires_grad_(), second.requires_grad_()
    later = (second.softmax(1) * reward_2).sum(dim=1)
    chances = first.softmax(0)
    (from_first,) = torch.autograd.grad(
        (chances * (reward_1 + gamma * later)).sum(), first, retain_graph=True
    )
    (from_second,) = torch.autograd.grad((chances * later).sum(), second)
    return from_first, from_second


@pytest.mark.parametrize("baseline", [(0.0, 0.0), (3.0, -2.0)], ids=["no baseline", "a baseline"])
@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.0])
def test_the_policy_gradient_over_all_trajectories_is_the_exact_gradient_of_the_expected_return(
    gamma, baseline
):
    for found, wanted in zip(
        weighed_gradients(gamma, baseline), exact_gradients(gamma), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
        assert wanted.abs().max() > 0.01


def test_the_policy_loss_is_minus_the_mean_of_log_chances_times_advantages():
    logits, chosen, gains = numbers(4, 5, 3), torch.randint(3, (4, 5)), numbers(4, 5, seed=7)
    wanted = 0.0
    for step, image in itertools.product(range(4), range(5)):
        chance = logits[step, image].exp()[chosen[step, image]] / logits[step, image].exp().sum()
        wanted -= chance.log() * gains[step, image] / 20
    torch.testing.assert_close(policy_loss(list(logits), list(chosen), gains), wanted)
    torch.testing.assert_close(policy_loss(logits, chosen, gains), wanted)


def test_no_gradient_flows_into_the_advantages():
    gains = numbers(2, 3).requires_grad_()
    logits = numbers(2, 3, 4).requires_grad_()
    policy_loss(logits, torch.zeros(2, 3, dtype=torch.long), gains).backward()
    assert gains.grad is None and logits.grad.any()


@pytest.mark.parametrize("better", [0, 1])
def test_of_two_arms_the_better_one_is_soon_pulled_more_than_nine_times_in_ten(better):
    torch.manual_seed(0)
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(60):
        everyone = logits.expand(32, 2)
        arms = torch.multinomial(everyone.softmax(dim=1).detach(), 1)[:, 0]
        optimizer.zero_grad()
        policy_loss([everyone], [arms], (arms == better).double()[None]).backward()
        optimizer.step()
    assert logits.softmax(dim=0)[better] > 0.9


def test_the_gradient_differs_between_the_arms_and_raises_what_was_rewarded():
    gradients = []
    for arm in (0, 1):
        logits = torch.zeros(1, 2, requires_grad=True)
        policy_loss([logits], [torch.tensor([arm])], torch.ones(1, 1)).backward()
        gradients.append(logits.grad[0].tolist())
    assert gradients == [[-0.5, 0.5], [0.5, -0.5]]
