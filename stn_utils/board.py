"""A Run on TensorBoard: its history as curves, theta as histograms, the probe images as the classifier sees them."""


class Board:
    """Writes a Run's epochs into the event files of one folder; epochs that are there already are written over."""

    def __init__(self, folder, run):
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self.writer = SummaryWriter(folder, purge_step=run.epochs + 1)
        self.writer.add_images("probe/input", run.probe["images"], run.epochs + 1)

    def add_epoch(self, run):
        """Add the Run's last epoch."""
        epoch = run.epochs
        for name, values in run.history.items():
            if name != "epoch":
                self.writer.add_scalar(f"history/{name}", values[-1], epoch)
        self.writer.add_images("probe/warped", run.probe["warped"][-1], epoch)
        if run.probe["thetas"] is not None:
            for name, values in zip(("a11", "a12", "t_x", "a21", "a22", "t_y"), run.probe["thetas"][-1].flatten(1).T):
                values = values[values.abs() < 1e19]  # where TensorBoard's bins end; of a net that diverged none may be left
                if len(values):
                    self.writer.add_histogram(f"theta/{name}", values, epoch)
        self.writer.flush()
