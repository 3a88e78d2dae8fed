"""Transformers in the depth: what a map sees, shifts that commute, windows told on the picture."""

import pytest
import torch
from test_models import batch, make, spec
from tiny_training import train_and_go
from tiny_world import tiny_load
from torch import nn

from stn_utils import show
from stn_utils.experiment import Experiment, choices
from stn_utils.models import PLACES, FeatureNet, build, count_parameters
from stn_utils.models.depth import frame
from stn_utils.models.nets import Resize, classifier_net, map_size
from stn_utils.spec import ImageSpec
from stn_utils.warp import affine, identity, invert, warp

DEEP = [place for place in choices("at") if place != "input"]
ON_MAPS = [place for place in DEEP if PLACES[place]]


def set_theta(transformer, theta):
    """Let its localization net answer this, whatever it sees."""
    last = transformer.localization[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(theta.flatten())


def touched(layers, size, column):
    """The columns of a map that the picture's column is seen in: those that nan reaches."""
    x = torch.zeros(1, 1, *size)
    x[..., column] = torch.nan
    return layers(x).isnan().any(dim=(0, 1, 2)).nonzero().flatten().tolist()


@pytest.mark.parametrize("convs", [1, 2])
@pytest.mark.parametrize("size", [(28, 28), (42, 42), (30, 42), (33, 29)])
def test_a_map_lies_where_the_centres_of_its_receptive_fields_do(size, convs):
    layers = nn.Sequential()
    for _ in range(convs):  # nothing but what decides which pixels are seen
        conv = nn.Conv2d(1, 1, 5)
        nn.init.ones_(conv.weight)
        layers.extend([conv, nn.AvgPool2d(2)])
    sees = {}
    for column in range(size[1]):
        for place in touched(layers, size, column):
            sees.setdefault(place, []).append(column)
    width = map_size(size, *[5] * convs)[1]
    assert sorted(sees) == list(range(width))
    middles = torch.tensor([(sees[i][0] + sees[i][-1]) / 2 for i in range(width)])
    by_hand = (2 * middles + 1) / size[1] - 1  # pixel-area
    on_map = (2 * torch.arange(width) + 1) / width - 1
    theta = frame(size, convs)[0]
    torch.testing.assert_close(theta[0, 0] * on_map + theta[0, 2], by_hand)
    assert frame(size[::-1], convs)[0, 1].tolist() == theta[0, [1, 0, 2]].tolist()


def blank_rim(size, rim=12):
    x = torch.zeros(3, 1, *size)
    x[..., rim:-rim, rim:-rim] = torch.rand(3, 1, size[0] - 2 * rim, size[1] - 2 * rim)
    return x


@pytest.mark.parametrize("normalize", ["before", "after", "none"])
@pytest.mark.parametrize("at, pixels", [("conv1", 2), ("conv2", 4)])
def test_a_shift_of_the_map_by_a_pixel_is_one_of_the_picture_by_its_stride(at, pixels, normalize):
    net = make(at=at, normalize=normalize).eval()
    plain = make(model="convnet", normalize=normalize).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    (transformer,) = net.inside
    side = transformer.size[0]
    set_theta(transformer, affine(shift_x=2 / side, shift_y=-2 / side))
    x = blank_rim(
        (28, 28)
    )  # a field of the second map spans 16 pixels, and none may be half outside
    by_picture = affine(shift_x=2 * pixels / 28, shift_y=-2 * pixels / 28)
    torch.testing.assert_close(net.looks(x)[0], by_picture.expand(3, 2, 3))
    seen = warp(x, by_picture)
    torch.testing.assert_close(net(x), plain(seen), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net.warped(x), seen, atol=1e-5, rtol=0)
    assert not torch.allclose(net(x), plain(x), atol=1e-3)


def test_a_turn_of_the_map_is_none_of_the_picture():
    net, plain = make(at="conv1").eval(), make(model="convnet").eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    set_theta(net.inside[0], affine(angle=90.0))
    x = blank_rim((28, 28), rim=8)
    through = net.looks(x)[0]
    torch.testing.assert_close(through, affine(angle=90.0).expand(3, 2, 3), atol=1e-6, rtol=0)
    assert (net(x) - plain(warp(x, through))).abs().max() > 1e-3


@pytest.mark.parametrize("at", DEEP)
def test_untrained_it_is_the_network_without(at):
    net, plain = make(at=at).eval(), make(model="convnet").eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    x, _ = batch()
    torch.testing.assert_close(net(x), plain(x), atol=1e-5, rtol=1e-4)
    for look in net.looks(x):
        torch.testing.assert_close(look, identity(len(x)))
    assert len(net.looks(x)) == max(1, len(PLACES[at]))
    torch.testing.assert_close(net.warped(x), x, atol=1e-5, rtol=0)


def test_what_stands_outside_a_map_is_what_a_blank_picture_gives():
    net = make(at="conv1").eval()
    set_theta(net.inside[0], affine(shift_x=9.0))  # nothing of the map is left
    x, _ = batch()
    torch.testing.assert_close(net(x), net(torch.zeros_like(x)), atol=1e-5, rtol=1e-4)
    black = make(at="conv1", padding="zeros").eval()
    black.load_state_dict(net.state_dict())
    assert not torch.allclose(black(x), net(x), atol=1e-3)


@pytest.mark.parametrize("convs", [1, 2])
def test_of_a_larger_canvas_the_first_map_shows_what_it_covers(convs):
    """42 pixels come to the map of 28: its frame among the canvas, over that among 28 pixels."""
    net = make("rts42", at=f"conv{convs}")
    x, _ = batch("rts42")
    (look,) = net.looks(x)
    for corner in ((-1.0, -1.0), (0.3, 0.7), (1.0, 1.0)):
        place = torch.tensor([*corner, 1.0])
        on_small = frame((28, 28), convs)[0] @ place  # this place of the map, on 28 pixels ...
        on_canvas = frame((42, 42), convs)[0] @ place  # ... and on 42
        torch.testing.assert_close(look[0] @ torch.cat([on_small, torch.ones(1)]), on_canvas)
    assert net.inside[0].size == map_size((28, 28), *[5] * convs)


def test_two_maps_give_two_looks_composed():
    net = make(at="conv1+conv2").eval()
    one, other = affine(shift_x=2 / 12), affine(shift_x=2 / 4, shift_y=2 / 4)
    for transformer, theta in zip(net.inside, (one, other)):
        set_theta(transformer, theta)
    x = blank_rim((28, 28), rim=8)
    first, last = net.looks(x)
    torch.testing.assert_close(first[0], affine(shift_x=4 / 28)[0])
    torch.testing.assert_close(last[0], affine(shift_x=12 / 28, shift_y=8 / 28)[0])


def test_a_shared_localization_net_learns_the_classifiers_convolutions():
    net, x = make(at="shared"), batch()[0]
    nn.init.normal_(net.transformer.localization[-1].weight, std=0.1)
    (theta,) = net.eval().looks(x)
    assert not torch.allclose(theta, theta[:1])  # it sees the picture
    theta.square().sum().backward()
    assert net.classifier[0].weight.grad.abs().sum() > 0
    assert net.classifier[3].weight.grad.abs().sum() > 0
    torch.testing.assert_close(net.warped(x), warp(x, theta), atol=1e-5, rtol=0)
    torch.testing.assert_close(net(x), net.logits_through(x, theta))


def test_deeper_they_have_as_many_convolutions_less_of_their_own():
    kinds = {
        at: [type(layer).__name__ for layer in part.localization].count("Conv2d")
        for at in ON_MAPS
        for part in make(at=at).inside
    }
    assert kinds == {"conv1": 1, "conv2": 0, "conv1+conv2": 0}  # the last one's
    assert {at: count_parameters(make(at=at)) for at in choices("at")} == {
        "input": 27_360, "conv1": 29_700, "conv2": 32_310, "conv1+conv2": 40_170, "shared": 32_310,
    }  # fmt: skip


def test_what_is_dropped_before_pooling_is_dropped_behind_it(one_thread):
    """The tutorial's order, and the same bits in every weight after a step."""
    x, y = batch()
    nets = []
    for tutorials in (False, True):
        torch.manual_seed(0)
        net = classifier_net(Experiment(), 1, (28, 28), 10)
        if tutorials:
            layers = list(net)
            layers.insert(4, layers.pop(6))
            assert [type(layer).__name__ for layer in layers[3:7]] == [
                "Conv2d", "Dropout2d", "MaxPool2d", "ReLU",
            ]  # fmt: skip
            net = nn.Sequential(*layers)
        torch.manual_seed(1)
        nn.functional.cross_entropy(net(x), y).backward()
        nets.append(net)
    for ours, theirs in zip(*(net.parameters() for net in nets)):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("at", DEEP)
@pytest.mark.parametrize("shape", [(30, 44), (44, 30)])
def test_any_shape_and_colour(at, shape):
    numbers = [0.2, 0.4, 0.6]
    kind = ImageSpec(3, shape, (28, 32), 4, numbers, numbers, numbers)
    net = build(Experiment(at=at, channels="s2", width=0.5), kind)
    x = torch.rand(3, 3, *shape)
    assert net(x).shape == (3, 4) and net.warped(x).shape == (3, 3, 28, 32)
    net.loss(x, torch.tensor([0, 1, 3])).backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("at", DEEP)
def test_a_run_of_each_can_be_seen_kept_and_gone_on_with(at, tmp_path, one_thread):
    world = tiny_load("glyphs", "translated42")
    experiment = Experiment(
        dataset="glyphs", world="translated42", at=at, epochs=1, n_train=128, loc_lr_ratio=0.1
    )
    run = train_and_go(experiment, folder=tmp_path, world=world)
    assert run.looks.shape[2:] == (2, 3) and len(run.looks) == 2
    assert run.history["det"] and run.history["outside"]
    for draw in (show.before_after, show.frames, show.filmstrip):
        assert draw(run)
    longer = train_and_go(experiment.replace(epochs=2), folder=tmp_path, world=world)
    whole = train_and_go(experiment.replace(epochs=2), world=world)
    for name, weights in whole.weights.items():
        assert torch.equal(longer.weights[name], weights)


def test_the_slower_rate_is_that_of_what_decides_on_a_warp():
    from stn_utils.train import make_optimizer

    for at in DEEP:
        net = make(at=at)
        rest, slow = make_optimizer(net, Experiment(loc_lr_ratio=0.1)).param_groups
        assert {id(p) for p in rest["params"]} == {id(p) for p in net.classifier.parameters()}
        assert len(rest["params"]) + len(slow["params"]) == len(list(net.parameters()))


@pytest.mark.parametrize(
    "fields, said",
    [
        (dict(at="conv3"), "conv2"),
        (dict(at="conv1", classifier="fcn"), "classifier='fcn' has no such map. Valid: input."),
        (dict(at="conv1", model="convnet"), "belongs to stnet"),
        (dict(at="shared", model="sequential"), "belongs to stnet"),
        (dict(at="conv2", normalize="localization"), "belongs to at='input'"),
        (dict(at="conv1", family="rotation"), "at='input' or 'shared'"),
        (dict(at="conv2", coordconv="both"), "leaves it none"),
        (dict(at="shared", activation="leaky-relu"), "leaves it none"),
    ],
)
def test_a_place_that_a_net_does_not_have_is_named(fields, said):
    with pytest.raises(ValueError, match="at=|conv") as error:
        Experiment(**fields)
    assert said in str(error.value)


def test_a_picture_too_small_for_a_map_says_so():
    with pytest.raises(ValueError, match="expected at least"):
        build(Experiment(at="conv2", output_size=16), spec()._replace(size=(14, 14)))


def test_a_plain_network_keeps_its_type():
    assert not isinstance(make(), FeatureNet)
    assert isinstance(make(at="conv1").transformer, Resize)
    assert torch.equal(invert(frame((28, 28), 1))[0, :, 2], torch.zeros(2))
