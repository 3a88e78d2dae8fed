"""Checkers of the chapters' exercises: each takes the reader's answer and prints one line about it.

A checker says "not attempted yet" to a stub, what is wrong to a wrong answer, and "right" to a
right one. It compares with an independent reference on random inputs, in double precision.
"""

import functools

RESULTS: dict[str, bool | None] = {}  # a checker's last answer; None: not asked yet


def checker(check):
    """Turn a function that asserts into a checker that prints; its messages say what to mend."""

    RESULTS[check.__name__] = None

    @functools.wraps(check)
    def report(answer):
        RESULTS[check.__name__] = False
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            check(answer)
        except NotImplementedError:
            print(f"{name}: not attempted yet")
        except AssertionError as fault:
            print(f"{name}: not yet. {fault}")
        except Exception as error:  # the reader's own code failed: say so, let the notebook go on
            print(f"{name}: your code raised {type(error).__name__}: {error}")
        else:
            RESULTS[check.__name__] = True
            print(f"{name}: right")

    return report


def tally():
    """Print how many of the exercises checked in this notebook are right; returns that number."""
    asked = {name: right for name, right in RESULTS.items() if right is not None}
    print(f"{sum(asked.values())} of {len(asked)} right")
    return sum(asked.values())


def quiz(questions):
    """A function answer(name, letter) that says whether it is right, and why.

    questions: {name: (right letter, {letter: why it is right or wrong})}.
    """

    def answer(name, letter="?"):
        right, reasons = questions[name]
        letter = str(letter).strip().lower()
        if letter == "?":
            print(f"{name}: not attempted yet")
        elif letter not in reasons:
            print(f"{name}: expected one of {', '.join(reasons)}, got {letter!r}")
        else:
            RESULTS[f"answer_{name}"] = letter == right
            print(f"{name}: {'right' if letter == right else 'not yet'}. {reasons[letter]}")

    return answer


def hunter(faults):
    """A function that prints an answer's faults; each of `faults` returns a sentence, or None."""

    def hunt(answer):
        found = [fault for fault in (look(answer) for look in faults) if fault]
        for number, fault in enumerate(found, start=1):
            print(f"{number}. {fault}")
        print(f"{len(found)} of {len(faults)} checks failed")

    return hunt


def expect_shape(value, shape, what):
    """Assert that `value` is a tensor of this shape."""
    import torch

    assert torch.is_tensor(value), f"{what} should be a tensor, not {type(value).__name__}."
    assert tuple(value.shape) == tuple(shape), (
        f"{what} should have shape {tuple(shape)}, not {tuple(value.shape)}."
    )
