"""A study's throughput: two runs at once with one thread each, against one at a time with two.

Runs of the study `optimizer` (cluttered40, 10,000 images, batch 64, two epochs), in alternation.
Both sides start training when their data is there; throughput is runs per second until the last
has finished. The ratio is the result.
"""

import argparse
import multiprocessing
import time

import torch

from stn_utils import Experiment, load
from stn_utils.metrics import interval
from stn_utils.train import begin, train_epoch

EXPERIMENT = Experiment(world="cluttered40", optimizer="sgd", lr=0.01, n_train=10_000, epochs=2)


def train(threads, seed, ready, answers):
    """Train one seed in this process from the moment that all are ready; answers its seconds."""
    torch.set_num_threads(threads)
    world = load("mnist", EXPERIMENT.world, fallback="glyphs")
    part = world.train.head(EXPERIMENT.n_train)
    torch.manual_seed(seed)
    model, optimizer = begin(EXPERIMENT, world.spec, torch.device("cpu"))
    ready.wait()
    began = time.perf_counter()
    for _ in range(EXPERIMENT.epochs):
        train_epoch(model, optimizer, part, EXPERIMENT.batch_size)
    answers.put(time.perf_counter() - began)


def throughput(runs, threads, seed):
    """Runs per second of `runs` processes at once, each with its threads."""
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(runs), context.Queue()
    workers = [
        context.Process(target=train, args=(threads, seed + i, ready, answers)) for i in range(runs)
    ]
    for worker in workers:
        worker.start()
    slowest = max(answers.get() for _ in workers)
    for worker in workers:
        worker.join()
    return runs / slowest


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5, help="alternating repetitions")
    arguments = parser.parse_args()
    ratios = []
    for pair in range(arguments.pairs):
        beside, alone = throughput(2, 1, 2 * pair), throughput(1, 2, 2 * pair)
        ratios.append(beside / alone)
        print(
            f"pair {pair + 1}: two at once {60 * beside:.1f} runs a minute, "
            f"one with two threads {60 * alone:.1f}, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    mean, half = interval(ratios)
    spread = f" ± {half:.2f} (95 %)" if half is not None else ""
    span = f"from {min(ratios):.2f} to {max(ratios):.2f}"
    print(f"two runs at once / one after the other: {mean:.2f}{spread}, {span}")


if __name__ == "__main__":
    main()
