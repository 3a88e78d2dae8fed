"""A Run on TensorBoard: its history as curves, its looks as histograms, the probe images."""

from .run import Run
from .spec import Folder

THETA = ("a11", "a12", "t_x", "a21", "a22", "t_y")
LARGEST = 1e19  # where TensorBoard's bins end


class Board:
    """Writes a Run's epochs into the event files of one folder, over those that are there already.

    The probe images are shown as the classifier sees them.
    """

    def __init__(self, folder: Folder, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self.writer = SummaryWriter(folder, purge_step=run.epochs + 1)
        self.writer.add_images("probe/input", _seen(run.probe["images"]), run.epochs + 1)

    def add_epoch(self, run: Run) -> None:
        """Add the Run's last epoch."""
        epoch = run.epochs
        for name, values in run.history.items():
            if name != "epoch":
                self.writer.add_scalar(f"history/{name}", values[-1], epoch)
        self.writer.add_images("probe/warped", _seen(run.probe["warped"][-1]), epoch)
        for name, values in _numbers(run).items():
            values = values[values.abs() < LARGEST]  # of a net that diverged none may be left
            if len(values):
                self.writer.add_histogram(name, values, epoch)
        self.writer.flush()


def _seen(images):
    """Images as the board can show them: of a pair, one stands below the other."""
    return images.flatten(1, 2)[:, None] if images.shape[1] == 2 else images


def _numbers(run):
    """What decides the looks of the last epoch, {name: values (P,)}: theta, or the parameters."""
    if run.looks is None:
        return {}
    if run.looks.ndim == 4:
        return {f"theta/{name}": values for name, values in zip(THETA, run.looks[-1].flatten(1).T)}
    numbers = run.probe["parameters"][-1]
    return {f"parameters/p{i}": values for i, values in enumerate(numbers.flatten(1).T)}
