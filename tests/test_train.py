"""fit, resume and evaluate: the same bits again, whatever interrupts or diverges; the test set read once."""

import dataclasses
import io
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from tiny_training import assert_same_bits, setup_epoch, train_and_go
from tiny_world import tiny_load
from torch.torch_version import TorchVersion

from stn_utils import spec, train
from stn_utils.data.worlds import Split
from stn_utils.models import build
from stn_utils.run import Run
from stn_utils.train import evaluate, fit, train_epoch
from stn_utils.warp import overlap

pytestmark = pytest.mark.usefixtures("one_thread")


def interrupt_in_epoch(monkeypatch, number):
    """The epoch of that number, counted from now, is trained and then lost to a KeyboardInterrupt."""
    calls = []

    def interrupted(*arguments):
        calls.append(1)
        loss = train_epoch(*arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(train, "train_epoch", interrupted)


RECIPES = {
    "stnet, adam": {},
    "stnet, sgd": dict(optimizer="sgd", lr=0.01, momentum=0.9),
    "convnet, adam": dict(model="convnet", world="translated42"),
    "drawn anew, clipped": dict(world="rts42", augment=True, grad_clip=0.5),
    "reinforced": dict(model="reinforced", actions="turns", n_train=100),
}


# ---- the same bits ----


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_same_seed_gives_same_bits_whatever_the_global_state(small, recipe):
    runs = []
    for state in (1, 2):
        torch.manual_seed(state)
        runs.append(train_and_go(small.replace(**recipe, epochs=2)))
    assert_same_bits(*runs)


def test_another_seed_gives_other_weights_and_another_history(small):
    ours, theirs = (train_and_go(small.replace(seed=seed, epochs=1)) for seed in (0, 1))
    assert ours.history["train_loss"] != theirs.history["train_loss"]
    assert not torch.equal(
        ours.weights["classifier.0.weight"], theirs.weights["classifier.0.weight"]
    )


def test_every_epoch_of_every_seed_draws_random_numbers_of_its_own(small, monkeypatch):
    states = []
    monkeypatch.setattr(train, "train_epoch", lambda *_: states.append(torch.initial_seed()) or 0.0)
    for seed in (0, 1):
        train_and_go(small.replace(seed=seed))
    assert len(set(states)) == len(states) == 6


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_resumed_equals_uninterrupted_bit_for_bit(small, tmp_path, recipe):
    experiment = small.replace(**recipe)
    assert train_and_go(experiment.replace(epochs=1), folder=tmp_path).epochs == 1
    resumed = train_and_go(experiment, folder=tmp_path)
    assert_same_bits(resumed, train_and_go(experiment))
    assert_same_bits(Run.load(tmp_path), resumed)


@pytest.mark.parametrize("recipe", ["stnet, adam", "stnet, sgd"])
def test_a_run_from_a_device_with_another_memory_layout_goes_on_alike(small, tmp_path, recipe):
    """On a GPU an optimizer's moments lie one channel after the other, on the CPU pixel by pixel."""
    experiment = small.replace(**RECIPES[recipe])
    run = train_and_go(experiment.replace(epochs=1))
    for state in run.optimizer["state"].values():
        for name, value in state.items():
            state[name] = value.contiguous() if torch.is_tensor(value) else value
    run.save(tmp_path)
    assert_same_bits(train_and_go(experiment, folder=tmp_path), train_and_go(experiment))


def test_fit_leaves_the_global_random_state_alone(small):
    before = torch.get_rng_state()
    train_and_go(small.replace(epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_of_a_run_answers_as_evaluated(small):
    run, world = train_and_go(small.replace(epochs=1)), tiny_load()
    predictions = train.predict(run.model(), world.test).argmax(dim=1)
    assert torch.equal(predictions.to(torch.uint8), run.test["predictions"])
    right = train.predict(run.model(), world.val).argmax(dim=1) == world.val.labels
    assert right.double().mean().item() == pytest.approx(
        run.history["val_top1"][-1]
    )  # what the live net had


# ---- interrupted, resumed, refused ----


def test_an_interrupt_returns_the_finished_epochs_and_fit_goes_on_from_there(
    small, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 2)
        run = train_and_go(small, folder=tmp_path)
    assert run.epochs == 1 and run.test is None and len(run.probe["parameters"]) == 2
    assert "1 of 3 epochs" in capsys.readouterr().out
    assert_same_bits(train_and_go(small, folder=tmp_path), train_and_go(small))


@pytest.mark.parametrize("before", [0, 1], ids=["from the start", "resumed"])
def test_an_interrupted_run_saved_by_hand_goes_on_as_if_uninterrupted(
    small, tmp_path, monkeypatch, before
):
    train_and_go(small.replace(epochs=before), folder=tmp_path / "first")
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, 2 - before)
        train_and_go(small, folder=tmp_path / "first").save(tmp_path / "second")
    assert_same_bits(train_and_go(small, folder=tmp_path / "second"), train_and_go(small))


def test_the_best_weights_are_those_of_the_first_epoch_with_the_highest_validation_top_1(
    small, tmp_path, monkeypatch
):
    two = train_and_go(small.replace(epochs=2)).weights
    scores = []

    def top1(*_):
        scores.append([0.3, 0.9, 0.9, 0.5][len(scores) % 4])  # of three epochs, then of the test
        return scores[-1]

    monkeypatch.setattr(train.metrics, "top1", top1)
    for folder in (None, tmp_path):
        if folder:
            with monkeypatch.context() as patch:
                interrupt_in_epoch(patch, 3)
                train_and_go(small, folder=folder)
        run = train_and_go(small, folder=folder)
        assert run.history["val_top1"] == [0.3, 0.9, 0.9] and run.best["epoch"] == 2
        assert all(torch.equal(run.best["weights"][name], two[name]) for name in two)


def test_a_run_resumed_elsewhere_tells_where_it_began_and_where_it_went_on(
    small, tmp_path, monkeypatch
):
    began = train_and_go(small.replace(epochs=1), folder=tmp_path).provenance
    monkeypatch.setattr(train, "provenance", lambda *_: {**began, "commit": "later"})
    assert (
        train_and_go(small.replace(epochs=1), folder=tmp_path).provenance == began
    )  # nothing was trained
    wanted = {**began, "commit": "later", "began": began}
    for epochs in (2, 3):  # the second time on the machine of the first
        assert train_and_go(small.replace(epochs=epochs), folder=tmp_path).provenance == wanted


@pytest.mark.parametrize("name", ["tpu", "cuda:7", "cuda:x", "meta"])
def test_a_device_that_is_not_there_is_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match=f"device '{name}' is not on this machine. Here: .*cpu"):
        spec.pick_device(name)


@pytest.mark.parametrize("gpus, mps, version, wanted", [
    (1, True, "2.13.0", "cuda"), (0, True, "2.13.0", "mps"), (0, True, "2.12.1", "cpu"), (0, False, "2.13.0", "cpu"),
])  # fmt: skip
def test_the_fastest_device_that_works_is_picked(gpus, mps, version, wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(
        torch, "empty", lambda _, device: SimpleNamespace(device=torch.device(device))
    )  # as if all of them were there
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    assert spec.pick_device().type == wanted


@pytest.mark.parametrize(
    "change, named",
    [
        (dict(seed=1), "seed: 0 there, 1 here"),
        (
            dict(lr=0.5, padding="zeros"),
            "padding: 'background' there, 'zeros' here; lr: 0.001 there, 0.5 here",
        ),
        (dict(epochs=1), "epochs: 2 there, 1 here"),
    ],
    ids=["seed", "two fields", "fewer epochs"],
)
def test_a_folder_with_another_experiment_is_refused_and_left_alone(small, tmp_path, change, named):
    first = train_and_go(small.replace(epochs=2), folder=tmp_path)
    with pytest.raises(ValueError) as refusal:
        train_and_go(small.replace(**{"epochs": 2, **change}), folder=tmp_path)
    assert named in str(refusal.value)
    assert_same_bits(Run.load(tmp_path), first)


def test_a_damaged_run_is_named_and_left_alone(small, tmp_path):
    train_and_go(small, folder=tmp_path)
    Run.file(tmp_path).write_bytes(b"cut")
    with pytest.raises(RuntimeError, match=r"run\.pt is damaged"):
        train_and_go(small, folder=tmp_path)
    assert Run.file(tmp_path).read_bytes() == b"cut"


@pytest.mark.parametrize(
    "change, device, named",
    [
        ({}, "tpu", "device 'tpu' is not on this machine"),
        (dict(n_train=1101), "cpu", "n_train: 1,101 images"),
    ],
    ids=["device", "n_train"],
)
def test_what_cannot_be_had_is_named(small, change, device, named):
    with pytest.raises(ValueError, match=named):
        fit(small.replace(**change), device)


# ---- the loop ----


@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_epoch_waits_for_the_device_once_however_many_batches(small, monkeypatch, clip):
    # SGD: Adam reads its step counters with .item(), which on the CPU is free and on the GPU does not happen.
    counts = []
    for batch_size in (1100, 110):
        arguments = setup_epoch(small.replace(optimizer="sgd"))
        with monkeypatch.context() as patch:
            calls = []
            for name in (
                "item",
                "tolist",
                "numpy",
                "cpu",
                "__bool__",
                "__float__",
                "__int__",
                "__array__",
            ):
                original = getattr(torch.Tensor, name)

                def counted(self, *args, original=original, name=name, **kwargs):
                    calls.append(name)
                    return original(self, *args, **kwargs)

                patch.setattr(torch.Tensor, name, counted)
            train_epoch(*arguments, batch_size, clip)
        counts.append(calls)
    assert counts == [["cpu", "tolist"]] * 2  # of which the first waits


def test_the_loss_of_an_epoch_is_the_mean_over_images_not_over_batches(small):
    losses = []
    for batch_size in (220, 500):  # 1100 = 500 + 500 + 100
        model, optimizer, part = setup_epoch(
            small.replace(lr=1e-12, optimizer="sgd", model="convnet")
        )
        torch.manual_seed(0)
        model.load_state_dict(build(small.replace(model="convnet"), tiny_load().spec).state_dict())
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                module.p = 0
        losses.append(train_epoch(model, optimizer, part, batch_size))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("model", ["stnet", "convnet"])
def test_every_parameter_stands_in_exactly_one_group_with_its_learning_rate(
    small, model, optimizer
):
    net, optimizer, _ = setup_epoch(
        small.replace(model=model, optimizer=optimizer, lr=0.5, loc_lr_ratio=0.1)
    )
    listed = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(listed)
    wanted = {
        id(p): 0.05 if name.startswith("transformer.") else 0.5
        for name, p in net.named_parameters()
    }
    assert listed == pytest.approx(wanted)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_ratio_0_holds_the_localization_and_lets_the_classifier_learn(small, optimizer):
    before, after = (
        train_and_go(small.replace(optimizer=optimizer, loc_lr_ratio=0, epochs=epochs)).weights
        for epochs in (0, 1)
    )
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"classifier"}


def test_the_loss_falls_on_glyphs(small):
    run = train_and_go(small.replace(n_train=None))
    assert run.title == "glyphs, clean28"
    assert run.history["train_loss"][-1] < 0.9 * run.history["train_loss"][0]


def length_of_step(experiment):
    """How far one step, on all images at once, moves all weights together."""
    one_step = experiment.replace(epochs=1, optimizer="sgd", batch_size=experiment.n_train)
    before, after = (train_and_go(one_step.replace(epochs=epochs)).weights for epochs in (0, 1))
    return (
        sum((after[name] - before[name]).double().square().sum() for name in before).sqrt().item()
    )


def test_clip_bounds_the_step_and_leaves_a_smaller_one_as_it_is(small):
    free = length_of_step(small.replace(lr=0.1))
    assert length_of_step(small.replace(lr=0.1, grad_clip=5 * free)) == pytest.approx(
        free / 2, rel=1e-4
    )  # 5 free x 0.1
    assert length_of_step(small.replace(lr=0.1, grad_clip=20 * free)) == free


def test_clip_bounds_every_step_of_an_epoch(small, monkeypatch):
    model, optimizer, part = setup_epoch(small.replace(optimizer="sgd", lr=0.1))
    lengths = []

    def step(original=optimizer.step):
        before = [p.detach().clone() for p in model.parameters()]
        original()
        lengths.append(
            sum((p - b).double().square().sum() for p, b in zip(model.parameters(), before))
            .sqrt()
            .item()
        )

    monkeypatch.setattr(optimizer, "step", step)
    train_epoch(model, optimizer, part, 100, 0.2)
    assert len(lengths) == 11
    assert max(lengths) <= 0.1 * 0.2 * (1 + 1e-4) and min(lengths) > 0


def pictures_trained_on(monkeypatch, experiment, **options):
    """The Split of every epoch."""
    parts = []
    with monkeypatch.context() as patch:
        patch.setattr(
            train, "train_epoch", lambda model, optimizer, part, *rest: parts.append(part) or 0.0
        )
        run = train_and_go(experiment, **options)
    return parts, run


def test_fresh_draws_the_training_digits_anew_every_epoch_and_nothing_else(small, monkeypatch):
    fresh, run = pictures_trained_on(monkeypatch, small.replace(world="rts42", augment=True))
    kept, usual = pictures_trained_on(monkeypatch, small.replace(world="rts42"))
    assert all(torch.equal(part.images, kept[0].images) for part in kept)
    pictures = [kept[0].images, *(part.images for part in fresh)]
    assert not any(
        torch.equal(one, other) for i, one in enumerate(pictures) for other in pictures[:i]
    )
    assert all(torch.equal(part.labels, kept[0].labels) for part in fresh)
    assert torch.equal(run.probe["images"], usual.probe["images"])


def test_fresh_draws_other_pictures_for_another_seed(small, monkeypatch):
    ours, theirs = (
        pictures_trained_on(
            monkeypatch, small.replace(world="rts42", augment=True, seed=seed, epochs=1)
        )[0][0]
        for seed in (3, 4)
    )
    assert not torch.equal(ours.images, theirs.images)


# ---- what is read, what is recorded ----


@pytest.mark.parametrize(
    "replica, reads", [(False, 0), (True, 1)], ids=["not a replica", "replica"]
)
def test_only_a_replica_reads_the_test_set_before_the_end(
    small, monkeypatch, tmp_path, replica, reads
):
    test_images = tiny_load(replica=replica).test.images
    early, late = [], []
    log = early

    def batch(self, index, original=Split.batch):
        if self.images.data_ptr() == test_images.data_ptr():
            log.append(1)
        return original(self, index)

    def at_the_end(*arguments):
        nonlocal log
        log = late
        return evaluate(*arguments)

    monkeypatch.setattr(Split, "batch", batch)
    monkeypatch.setattr(train, "evaluate", at_the_end)
    for _ in range(2):  # the second call finds a finished Run, and reads nothing
        run = train_and_go(small.replace(replica=replica), folder=tmp_path)
    assert (len(early), len(late)) == (
        reads * 3,
        1,
    )  # a replica: its score and its looks, in one pass, in each of 3 epochs
    assert ("test_top1" in run.history, "val_top1" in run.history) == (replica, not replica)


def test_evaluate_counts_every_test_image_once(small):
    test = train_and_go(small.replace(epochs=1)).test
    labels = tiny_load().test.labels
    assert test["confusion"].sum() == len(labels) == len(test["predictions"])
    assert test["confusion"].sum(dim=1).tolist() == labels.bincount().tolist()
    assert test["top1"] == pytest.approx((test["predictions"] == labels).double().mean().item())


def test_evaluate_tells_how_far_confidence_is_from_being_right(small):
    run, part = (
        train_and_go(small.replace(epochs=5, lr=0.003)),
        tiny_load().test,
    )  # long enough to be sure of some, not of others
    with torch.no_grad():
        confidence, answers = (
            run.model()(part.batch(slice(None))[0]).double().softmax(dim=1).max(dim=1)
        )
    gaps = confidence - (answers == part.labels).double()
    error = 0.0
    for low in range(15):  # fifteenths
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        error += abs(gaps[inside].sum().item()) / len(part)
    assert error > abs(gaps.mean().item()) + 0.01  # so that the intervals matter
    assert run.test["calibration_error"] == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize("epochs", [0, 2])
def test_the_probe_has_a_frame_before_training_and_one_an_epoch(small, epochs):
    run = train_and_go(small.replace(epochs=epochs, world="translated42"))
    probe = run.probe
    count = len(probe["labels"])
    assert probe["labels"].bincount().tolist() == [2] * 10
    assert probe["images"].shape == (count, 1, 42, 42)
    assert probe["parameters"].shape == (epochs + 1, count, 6) and run.looks.shape == (
        epochs + 1,
        count,
        2,
        3,
    )
    assert probe["warped"].shape == (epochs + 1, count, 1, 28, 28)
    frames_moved = [
        not torch.equal(theta, torch.eye(2, 3).expand(count, 2, 3)) for theta in run.looks
    ]
    assert frames_moved == [False] + [True] * epochs


def test_a_net_without_looks_has_pictures_but_no_thetas_and_no_det(small):
    run = train_and_go(small.replace(model="convnet", world="translated42", epochs=1))
    assert run.looks is None and run.probe["warped"].shape[:2] == (2, 20)
    assert not {"det", "outside", "shift"} & run.history.keys()


def test_every_epoch_prints_one_line_unless_quiet(small, capsys):
    fit(small.replace(epochs=2), "cpu")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("train loss")[0].strip() for line in lines] == ["epoch  1/2", "epoch  2/2"]
    train_and_go(small.replace(epochs=1))
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_the_lines_that_a_notebook_gets_and_no_bar(small, monkeypatch):
    screens = io.StringIO(), io.StringIO()
    for screen, terminal in zip(screens, (True, False)):
        monkeypatch.setattr(screen, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setattr(sys, "stdout", screen)
        fit(small.replace(epochs=2), device="cpu")
    shown, plain = (re.sub(r"[\d.]+ s$", "", s.getvalue(), flags=re.M) for s in screens)
    assert shown == plain and shown.count("train loss") == 2 and "\r" not in shown


# ---- a World of one's own ----


def own_world(classes=10, channels=1, size=(28, 28), count=120, **changes):
    """Pictures of noise, as a reader would hand them over."""
    random = torch.Generator().manual_seed(0)
    shape = (count, channels, *size)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=random)
    split = Split(images, torch.arange(count) % classes, torch.eye(2, 3).repeat(count, 1, 1))
    names = [str(number) for number in range(classes)]
    fields = dict(train=split, val=split, test=split, names=names, output_size=size)
    statistics = dict(background=[0.0], mean=[0.5], std=[0.3])
    fields |= {name: value * channels for name, value in statistics.items()}
    return dataclasses.replace(tiny_load(), dataset="noise", name="own", **(fields | changes))


@pytest.mark.parametrize("classes", [2, 12, 60])
def test_a_world_may_have_any_number_of_classes(small, classes):
    run = fit(small.replace(n_train=120, epochs=1), "cpu", quiet=True, world=own_world(classes))
    assert run.test["confusion"].shape == (classes, classes)
    assert run.test["confusion"].sum() == len(run.test["predictions"]) == 120
    assert len(run.probe["images"]) <= 20


@pytest.mark.parametrize("channels, size", [(1, (28, 40)), (3, (32, 32)), (3, (40, 28))])
@pytest.mark.parametrize("model", ["stnet", "convnet", "sequential", "reinforced"])
def test_a_world_may_be_of_any_shape_and_in_colour(small, model, channels, size):
    world = own_world(channels=channels, size=size)
    run = fit(small.replace(model=model, n_train=64, epochs=1), "cpu", quiet=True, world=world)
    assert run.probe["warped"].shape == (2, 20, channels, *size)
    assert run.model()(torch.rand(2, channels, *size)).shape == (2, 10)


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_part_without_images_is_refused_never_replaced_by_another(small, name):
    world = own_world()
    with pytest.raises(ValueError, match=rf"world\.{name}: expected images, got none"):
        fit(small, "cpu", world=dataclasses.replace(world, **{name: world.train.head(0)}))


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(world="rts42"), "world: 'rts42' in the Experiment, 'clean28' in the World"),
        (dict(dataset="mnist"), "dataset: 'mnist' in the Experiment, 'glyphs' in the World"),
        (dict(replica=True), "replica: True in the Experiment, False in the World"),
    ],
)
def test_a_world_that_is_not_the_experiments_is_refused_by_what_differs(small, fields, message):
    with pytest.raises(ValueError, match=message):
        fit(small.replace(**fields), "cpu", world=tiny_load("glyphs"))


def test_a_tested_run_says_how_far_its_windows_lie_on_the_true_ones(small):
    run = train_and_go(small.replace(world="translated42", epochs=1))
    world = tiny_load("glyphs", "translated42")
    looks = run.model().eval().looks(world.test.batch(slice(None))[0])[-1]
    assert run.test["overlap"] == pytest.approx(overlap(looks, world.test.poses).mean().item())
    assert "overlap" not in train_and_go(small.replace(model="convnet", epochs=1)).test
