"""One palette, one width, and which images of a Run are shown."""

import matplotlib.pyplot as plt
import torch

INK, PAPER, FAINT = "#1f2933", "#ffffff", "#c5cdd5"
WINDOW, OTHER, THIRD = "#e8590c", "#1c7ed6", "#2b8a3e"  # the transformer's window and curve; the baseline; the rest
WIDTH = 9  # inches, every figure
DIGITS_SHOWN = 10
BESIDE = dict(loc="center left", bbox_to_anchor=(1, 0.5))  # a legend's place: never on the curves

plt.rcParams.update({
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "figure.dpi": 90, "figure.titlesize": 11,
    "figure.constrained_layout.use": True, "figure.constrained_layout.h_pad": 0.07,
    "axes.prop_cycle": plt.cycler(color=[WINDOW, OTHER, THIRD, INK, "#9c36b5", "#868e96"]),
    "axes.edgecolor": INK, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#e9ecef",
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.titlesize": 10, "font.size": 10,
    "legend.frameon": False, "image.cmap": "gray", "lines.linewidth": 2,
})  # fmt: skip


def plane(image):
    """An image (C, H, W) or (H, W), tensor or array, as (H, W) or (H, W, 3)."""
    image = torch.as_tensor(image).detach().cpu()
    if image.ndim == 3:
        image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return image.numpy()


def shown(run, count):
    """The probe of a Run and the indices to show: one image of each class first, then the second ones."""
    if run.probe["thetas"] is None:
        raise ValueError(f"{run.experiment.model} has no looks: there is no warp to show.")
    labels = run.probe["labels"]
    per_class = len(labels) // len(labels.unique())
    order = torch.arange(len(labels)).view(-1, per_class).T.flatten()
    return run.probe, order[:count]
