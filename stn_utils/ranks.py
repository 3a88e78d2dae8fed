"""One network on several processes, which torchrun starts: they share out every batch."""

import atexit
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .models import Net
from .stack import Loss


def started() -> tuple[int, int]:
    """This process's number, and how many torchrun has started; (0, 1) without it.

    Raises ValueError for half of its variables, or for what is no number.
    """
    rank, ranks = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if rank == ranks == "":
        return 0, 1
    if not (rank.isdecimal() and ranks.isdecimal()):
        expected = "expected two whole numbers, or neither"
        raise ValueError(f"RANK and WORLD_SIZE: {expected}; got {rank!r} and {ranks!r}.")
    return int(rank), int(ranks)


def own_gpu() -> str | None:
    """The GPU of this process, where torchrun has started several; they are dealt out."""
    gpu = os.environ.get("LOCAL_RANK") if torch.cuda.is_available() else None
    return f"cuda:{int(gpu) % torch.cuda.device_count()}" if gpu else None


def meet(device: torch.device) -> int:
    """Let those that torchrun has started train one network; returns this process's number."""
    rank, count = started()
    if count > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return rank


def ranks() -> tuple[int, int]:
    """The number of this process among those that train together, and how many they are."""
    together = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if together else (0, 1)


class Together(nn.Module):
    """A Net whose gradient is the mean of all processes' gradients, for `train_epoch`.

    Its weights become those of the first process. Source: PyTorch's DistributedDataParallel.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.all = DistributedDataParallel(Loss(net), static_graph=True)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of this process's images."""
        return self.all(x, y)

    def clip_gradients(self, norm: float) -> None:
        """Cut the gradient, the same one in all processes, to this norm."""
        self.all.module.net.clip_gradients(norm)


def share(order: Tensor, batch_size: int) -> Tensor:
    """What this process takes of an order (N,): batch_size of every batch_size * processes.

    The last few images, fewer than there are processes, are left out, so that all get as many.
    """
    rank, count = ranks()
    order = order[: len(order) - len(order) % count]
    return torch.cat([batch.chunk(count)[rank] for batch in order.split(batch_size * count)])


def total(number: float) -> float:
    """The sum of a number over all processes."""
    found = [number] * ranks()[1]
    if len(found) > 1:
        dist.all_gather_object(found, number)
    return sum(found)
