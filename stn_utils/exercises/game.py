"""Chapter 07's game: a reader moves the window of a trained policy, and may do better than it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import show
from ..models import ReinforcedNet
from ..player import explorer_still
from ..warp import compose, identity


class Episode:
    """A reader's own moves on one image x (1, C, H, W) of class y, seen by a trained net."""

    def __init__(self, net: ReinforcedNet, x: Tensor, y: int) -> None:
        self.net, self.x, self.y, self.transformer = net.eval(), x, y, net.transformer
        self.theta: Tensor = identity()
        self.moves: list[int] = []

    @torch.no_grad()
    def look(self, theta: Tensor) -> tuple[int, float, float]:
        """What the classifier says of theta's window: the answer, its probability, the loss."""
        logits = self.net.logits_through(self.x, theta)
        loss = F.cross_entropy(logits, torch.tensor([self.y])).item()
        return int(logits.argmax()), float(logits.softmax(dim=1).max()), loss

    def move(self, number: int) -> float:
        """Make one more move; returns its reward, the decrease of the loss."""
        before = self.look(self.theta)[2]
        self.theta = compose(self.theta, self.transformer.moves[[number]])
        self.moves.append(number)
        return before - self.look(self.theta)[2]

    def policy_loss(self) -> float:
        """The loss after as many moves of the policy's own."""
        return self.look(self.net.looks(self.x)[-1])[2]


def policy_widget(net: ReinforcedNet, x: Tensor, y: int, names: list[str]) -> Any:
    """Buttons for the moves of a trained net on one image x (1, C, H, W) of class y.

    names: those of the moves.
    """
    import ipywidgets

    game = Episode(net, x, y)
    picture, text = ipywidgets.Image(format="png", width=560), ipywidgets.HTML()

    def update(reward=None):
        answer, chance, loss = game.look(game.theta)
        picture.value = show.encode(explorer_still(x[0], game.theta))
        left = game.transformer.steps - len(game.moves)
        said = f"It is a {y}. The classifier says {answer} ({100 * chance:.0f} %); loss {loss:.3f}."
        said += f" Last reward {reward:+.3f}." if reward is not None else ""
        said += (
            f" Moves left: {left}."
            if left
            else f" Done. The policy ends at loss {game.policy_loss():.3f}."
        )
        text.value = f"<p>{said}</p>"
        for button in buttons:
            button.disabled = not left

    def press(button):
        if len(game.moves) < game.transformer.steps:  # a second press may come too soon
            update(game.move(buttons.index(button)))

    def restart(_):
        game.theta, game.moves = identity(), []
        update()

    buttons = [ipywidgets.Button(description=name) for name in names]
    for button in buttons:
        button.on_click(press)
    again = ipywidgets.Button(description="start again", button_style="warning")
    again.on_click(restart)
    update()
    rows = [ipywidgets.HBox(buttons[i : i + 4]) for i in range(0, len(buttons), 4)]
    return ipywidgets.VBox([picture, text, *rows, again])
