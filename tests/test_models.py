"""Models: sizes, the PyTorch tutorial's net by hand, identity at the start, every documented choice runs."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stn_utils.data import WORLDS
from stn_utils.experiment import Experiment, choices
from stn_utils.layers import CoordConv2d
from stn_utils.models import Resize, build, count_parameters
from stn_utils.spec import ImageSpec
from stn_utils.warp import affine, identity, warp

MEAN, STD = 0.1307, 0.3081


def spec(world="clean28", channels=1, **changes):
    """What a World would say of itself; no images needed."""
    sizes = [(WORLDS[world][key],) * 2 for key in ("canvas", "output_size")]
    numbers = ([value] * channels for value in (0.0, MEAN, STD))
    return ImageSpec(channels, *sizes, 10, *numbers)._replace(**changes)


def make(world="clean28", **fields):
    torch.manual_seed(0)
    return build(Experiment(world=world, **fields), spec(world))


def batch(world="clean28", count=6, channels=1):
    random = torch.Generator().manual_seed(1)
    side = WORLDS[world]["canvas"]
    return torch.rand(count, channels, side, side, generator=random), torch.arange(count) % 10


def move_the_window(net):
    """Give the last layer of the localization net weights, so that theta differs from image to image."""
    torch.manual_seed(2)
    nn.init.normal_(net.transformer.localization[-1].weight, std=0.3)
    return net


@pytest.mark.parametrize("model, count", [("stnet", 27_360), ("convnet", 21_840)])
def test_parameter_counts_on_clean28(model, count):
    net = make(model=model)
    assert count_parameters(net) == count
    net.classifier[0].bias.requires_grad_(False)
    assert count_parameters(net) == count - 10


class Tutorial(nn.Module):
    """The network of the PyTorch tutorial on spatial transformers, typed from its page."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=7), nn.MaxPool2d(2, stride=2), nn.ReLU(True),
            nn.Conv2d(8, 10, kernel_size=5), nn.MaxPool2d(2, stride=2), nn.ReLU(True),
        )  # fmt: skip
        self.fc_loc = nn.Sequential(nn.Linear(10 * 3 * 3, 32), nn.ReLU(True), nn.Linear(32, 3 * 2))

    def stn(self, x):
        xs = self.localization(x).view(-1, 10 * 3 * 3)
        theta = self.fc_loc(xs).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def forward(self, x):
        x = self.stn(x)
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 320)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)

    def layers(self):
        """Pairs with the layers of the course's net, in its order."""
        return [self.localization[0], self.localization[3], self.fc_loc[0], self.fc_loc[2],
                self.conv1, self.conv2, self.fc1, self.fc2]  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
def test_stnet_is_the_tutorials_net_when_given_its_weights(training):
    ours = move_the_window(make(normalize="before", padding="zeros")).train(training)
    tutorial = Tutorial().train(training)
    layers = [m for m in ours.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for theirs, mine in zip(tutorial.layers(), layers, strict=True):
        theirs.load_state_dict(mine.state_dict())
    x, y = batch()
    torch.manual_seed(3)  # the same dropout on both sides
    loss = ours.loss(x, y)
    torch.manual_seed(3)
    expected = F.nll_loss(tutorial((x - MEAN) / STD), y)
    torch.testing.assert_close(loss, expected)
    loss.backward(), expected.backward()
    for theirs, mine in zip(tutorial.layers(), layers, strict=True):
        torch.testing.assert_close(mine.weight.grad, theirs.weight.grad, atol=1e-5, rtol=1e-4)


def expect_all_weights_to_learn(net, x, y):
    """In the second step every weight has a gradient: the first only frees those behind a layer of zeros."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net.loss(x, y).backward()
        optimizer.step()
    dead = [
        name for name, p in net.named_parameters() if p.grad is None or not p.grad.count_nonzero()
    ]
    assert not dead
    assert net(x).shape == (6, 10)


# A convnet has no localization net that could be normalized.
NETS = [
    pair
    for pair in itertools.product(choices("model"), choices("normalize"))
    if pair != ("convnet", "localization")
]
EVERY_CHOICE = [
    (*net, *rest) for net, *rest in itertools.product(NETS, choices("padding"), WORLDS, (None, 17))
]


@pytest.mark.parametrize("model, normalize, padding, world, view", EVERY_CHOICE)
def test_every_choice_runs_and_every_weight_gets_a_gradient_after_one_step(
    model, normalize, padding, world, view
):
    net = make(world, model=model, normalize=normalize, padding=padding, output_size=view)
    expect_all_weights_to_learn(net, *batch(world))


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize("view", [16, 28])
def test_channels_and_classes_come_from_the_spec(model, view):
    net = build(Experiment(model=model, output_size=view), spec(channels=3, classes=7))
    assert net(batch(channels=3)[0]).shape == (6, 7)


@pytest.mark.parametrize("model, normalize", NETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_picture_at_the_start_is_the_input_with_normalization_undone(model, normalize, channels):
    known = spec(channels=channels, mean=[0.1, 0.5, 0.3][:channels], std=[0.3, 0.2, 0.7][:channels])
    net = build(
        Experiment(model=model, normalize=normalize), known
    ).eval()  # a policy that learns tries its moves
    x, _ = batch(channels=channels)
    torch.testing.assert_close(net.warped(x), x, atol=2e-4, rtol=0)


@pytest.mark.parametrize("normalize", ["before", "after"])
def test_the_classifier_gets_normalized_pictures(normalize):
    net = make(normalize=normalize)
    seen = []
    net.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x, _ = batch()
    net(x)
    torch.testing.assert_close(seen[0], (x - MEAN) / STD, atol=2e-4, rtol=0)


NORMALIZED = {  # what the localization net gets, and what the classifier gets
    "before": (True, True), "after": (False, True), "localization": (True, False), "none": (False, False),
}  # fmt: skip


def what_they_get(net, x):
    """The inputs of the localization net's first convolution and of the classifier."""
    seen = []
    for module in (
        next(m for m in net.transformer.localization.modules() if isinstance(m, nn.Conv2d)),
        net.classifier,
    ):
        module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(x)
    return seen


def test_every_way_to_normalize_is_in_the_table():
    assert tuple(NORMALIZED) == choices("normalize")


@pytest.mark.parametrize("normalize", NORMALIZED)
def test_localization_and_classifier_get_normalized_pictures_as_the_experiment_says(normalize):
    x, _ = batch()
    for seen, normalized in zip(
        what_they_get(make(normalize=normalize), x), NORMALIZED[normalize], strict=True
    ):
        torch.testing.assert_close(seen, (x - MEAN) / STD if normalized else x, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "own, mean, std",
    [({"mean": 0.5}, 0.5, STD), ({"std": 2.0}, MEAN, 2.0), ({"mean": 0.0, "std": 1.0}, 0.0, 1.0)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_experiments_own_mean_and_std_take_the_place_of_the_worlds_in_every_channel(
    own, mean, std, channels
):
    net = build(Experiment(**own), spec(channels=channels))
    x, _ = batch(channels=channels)
    for seen in what_they_get(net, x):
        torch.testing.assert_close(seen, (x - mean) / std, atol=2e-4, rtol=0)
    torch.testing.assert_close(net.warped(x), x, atol=2e-4, rtol=0)


@pytest.mark.parametrize("world", ["clean28", "translated42"])
def test_nets_of_one_seed_start_alike_however_they_normalize(world):
    usual = list(make(world).parameters())
    for fields in [
        *({"normalize": way} for way in choices("normalize")),
        {"mean": 0.5, "std": 2.0},
    ]:
        parameters = list(make(world, **fields).parameters())
        assert all(
            torch.equal(ours, theirs) for ours, theirs in zip(parameters, usual, strict=True)
        )


@pytest.mark.parametrize("normalize", choices("normalize"))
def test_background_padding_is_the_worlds_background_in_the_picture(normalize):
    net = build(
        Experiment(normalize=normalize, padding="background", mean=0.4), spec(background=[0.2])
    )
    with torch.no_grad():
        net.transformer.localization[-1].bias[2] = 9.0  # look far to the right: nothing but padding
    torch.testing.assert_close(
        net.warped(batch()[0]), torch.full((6, 1, 28, 28), 0.2), atol=1e-6, rtol=0
    )


def test_zero_padding_after_normalization_is_grey_before_it_is_black():
    for normalize, value in [
        ("before", MEAN),
        ("after", 0.0),
        ("localization", 0.0),
        ("none", 0.0),
    ]:
        net = make(normalize=normalize, padding="zeros")
        with torch.no_grad():
            net.transformer.localization[-1].bias[2] = 9.0
        torch.testing.assert_close(
            net.warped(batch()[0]), torch.full((6, 1, 28, 28), value), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("world", WORLDS)
def test_looks_are_identity_at_the_start_for_any_input(world):
    looks = make(world).looks(batch(world)[0] * 100 - 50)
    assert len(looks) == 1
    assert torch.equal(looks[0], identity(6))


@pytest.mark.parametrize("world", WORLDS)
def test_looks_of_a_convnet_are_empty(world):
    assert make(world, model="convnet").looks(batch(world)[0]) == []


@pytest.mark.parametrize("normalize", choices("normalize"))
def test_looks_are_the_thetas_that_made_the_picture(normalize):
    net = move_the_window(make("translated42", normalize=normalize, padding="border")).eval()
    x, _ = batch("translated42")
    (theta,) = net.looks(x)
    assert not torch.allclose(theta[0], theta[1])
    grid = F.affine_grid(theta, (6, 1, 28, 28), align_corners=False)
    by_hand = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(net.warped(x), by_hand, atol=2e-4, rtol=0)


@pytest.mark.parametrize("model", choices("model"))
def test_two_eval_passes_agree_and_two_training_passes_do_not(model):
    net = make("translated42", model=model)
    x, _ = batch("translated42")
    net.eval()
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize("normalize", ["before", "after", "none"])
@pytest.mark.parametrize(
    "world, view",
    [
        ("translated42", 28),
        ("clean28", 17),
        ("clean28", 40),
    ],
)
def test_a_convnet_with_another_view_sees_the_whole_picture_resized(world, view, normalize):
    net = make(world, model="convnet", output_size=view, normalize=normalize)
    x, _ = batch(world)
    resized = F.interpolate(x, (view, view), mode="bilinear", align_corners=False)
    torch.testing.assert_close(net.warped(x), resized, atol=2e-4, rtol=0)


def test_standing_still_leaves_a_picture_of_its_size_alone_and_has_no_looks():
    x = torch.rand(3, 2, 5, 9, dtype=torch.float64)
    assert Resize((5, 9))(x) is x and Resize((5, 9)).looks(x) == []
    elsewhere = Resize((4, 4))(x.to("meta"))
    assert (elsewhere.shape, elsewhere.dtype, elsewhere.device.type) == (
        (3, 2, 4, 4),
        torch.float64,
        "meta",
    )


def test_same_seed_same_weights():
    first, second = make().state_dict(), make().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


# ---- CoordConv, leaky ReLU, width ----

HALVES = {  # is it CoordConv in the localization net, and in the classifier?
    "none": (False, False), "localization": (True, False), "classifier": (False, True), "both": (True, True),
}  # fmt: skip
MORE = {
    "none": 0,
    "localization": 1_284,
    "classifier": 1_500,
    "both": 2_784,
}  # weights: two channels in, at each convolution


def kinds(net):
    """The types of the convolutions, of the localization net and of the classifier."""
    halves = net.transformer.localization, net.classifier
    return [{type(m) for m in half.modules() if isinstance(m, nn.Conv2d)} for half in halves]


def activations(half):
    """The slopes below 0 of what makes a net nonlinear, one a layer."""
    slopes = {nn.ReLU: lambda m: 0.0, nn.LeakyReLU: lambda m: m.negative_slope}
    return [slopes[type(m)](m) for m in half.modules() if type(m) in slopes]


def test_every_way_to_place_coordconv_is_in_the_tables():
    assert tuple(HALVES) == tuple(MORE) == choices("coordconv")


@pytest.mark.parametrize("coordconv", HALVES)
def test_coordconv_replaces_every_convolution_of_the_half_it_names_and_none_of_the_other(coordconv):
    wanted = [{CoordConv2d} if there else {nn.Conv2d} for there in HALVES[coordconv]]
    assert kinds(make(coordconv=coordconv)) == wanted


@pytest.mark.parametrize("coordconv", HALVES)
def test_parameter_counts_of_coordconv_on_clean28(coordconv):
    assert count_parameters(make(coordconv=coordconv)) == 27_360 + MORE[coordconv]
    assert (
        count_parameters(make(coordconv=coordconv, activation="leaky-relu"))
        == 27_360 + MORE[coordconv]
    )


@pytest.mark.parametrize(
    "fields, count",
    [
        ({"coordconv": "classifier"}, 23_340),
        ({"width": 1.13}, 27_868),
        ({"width": 2.0}, 20 * (25 + 1) + 40 * (20 * 25 + 1) + 100 * (40 * 16 + 1) + 10 * (100 + 1)),
        (
            {"width": 0.01},
            (25 + 1) + (25 + 1) + (16 + 1) + 10 * (1 + 1),
        ),  # never less than one channel
    ],
    ids=str,
)
def test_parameter_counts_of_other_convnets_on_clean28(fields, count):
    assert count_parameters(make(model="convnet", **fields)) == count


def test_the_seed_projects_network_for_cifar10_has_its_published_sizes():
    spec = ImageSpec(3, (32, 32), (32, 32), 10, [0.5] * 3, [0.5] * 3, [0.25] * 3)
    net = build(Experiment(dataset="cifar10", world="clean32", channels="s2"), spec)
    assert count_parameters(net.transformer) == 280_166
    assert count_parameters(net.classifier) == 134_256
    x = torch.rand(2, 3, 32, 32)
    assert net(x).shape == (2, 10) and torch.allclose(net.looks(x)[0], identity(2))
    plain = build(
        Experiment(dataset="cifar10", world="clean32", channels="s2", model="convnet"), spec
    )
    assert count_parameters(plain) == 134_256


def test_channels_are_the_convolutions_and_dense_layers_have_none():
    with pytest.raises(ValueError, match="classifier='fcn' has no convolutions"):
        Experiment(channels="s2", classifier="fcn")


def test_width_widens_the_classifier_and_leaves_the_localization_net_alone():
    usual, wide = make(), make(width=2.5)
    sizes = [[p.shape for p in net.transformer.localization.parameters()] for net in (usual, wide)]
    assert sizes[0] == sizes[1]
    convs = [m for m in wide.classifier if isinstance(m, nn.Conv2d)]
    first, last = [m for m in wide.classifier if isinstance(m, nn.Linear)]
    assert [conv.out_channels for conv in convs] == [25, 50] and (
        first.out_features,
        last.out_features,
    ) == (125, 10)


@pytest.mark.parametrize("coordconv", HALVES)
@pytest.mark.parametrize("activation, slope", [("relu", 0.0), ("leaky-relu", 0.01)])
def test_the_activation_is_that_of_the_localization_net_alone(activation, slope, coordconv):
    net = make(activation=activation, coordconv=coordconv)
    assert activations(net.transformer.localization) == [
        slope,
        slope,
        0.0,
    ]  # S4 left the dense part's as it was
    assert activations(net.classifier) == [0.0] * 3


def test_every_activation_is_tried():
    assert choices("activation") == ("relu", "leaky-relu")


NEW = [
    dict(coordconv=coordconv, activation=activation, model="stnet")
    for coordconv, activation in itertools.product(HALVES, choices("activation"))
]
NEW += [
    dict(model="convnet", coordconv="classifier"),
    dict(model="convnet", width=1.13),
    dict(model="stnet", width=0.3),
]


@pytest.mark.parametrize("world", ["clean28", "translated42"])
@pytest.mark.parametrize("fields", NEW, ids=lambda fields: "-".join(map(str, fields.values())))
def test_every_coordconv_activation_and_width_trains_all_its_weights_after_one_step(fields, world):
    net = make(world, **fields).train()
    expect_all_weights_to_learn(net, *batch(world))


def place(x):
    """Images (B, C, H, W) with x and y, from corner to corner, as two more channels."""
    height, width = x.shape[-2:]
    across = torch.linspace(-1, 1, width).expand(len(x), 1, height, width)
    down = torch.linspace(-1, 1, height)[:, None].expand(len(x), 1, height, width)
    return torch.cat([x, across, down], dim=1)


@pytest.mark.parametrize("coordconv", HALVES)
@pytest.mark.parametrize("activation", choices("activation"))
def test_the_net_computes_what_plain_operations_do_with_its_weights(activation, coordconv):
    net = move_the_window(
        make(activation=activation, coordconv=coordconv, normalize="none", padding="zeros")
    ).eval()
    loc1, loc2, loc3, loc4, conv1, conv2, fc1, fc2 = [
        m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    in_localization, in_classifier = HALVES[coordconv]
    x, _ = batch()

    def act(x):
        return F.leaky_relu(x, 0.01) if activation == "leaky-relu" else F.relu(x)

    def conv(layer, x, with_place):
        return F.max_pool2d(F.conv2d(place(x) if with_place else x, layer.weight, layer.bias), 2)

    maps = act(conv(loc2, act(conv(loc1, x, in_localization)), in_localization))
    theta = F.linear(
        F.relu(F.linear(maps.flatten(1), loc3.weight, loc3.bias)), loc4.weight, loc4.bias
    ).view(-1, 2, 3)
    torch.testing.assert_close(net.looks(x)[0], theta, atol=1e-5, rtol=1e-4)
    view = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)
    maps = F.relu(conv(conv2, F.relu(conv(conv1, view, in_classifier)), in_classifier))
    logits = F.linear(F.relu(F.linear(maps.flatten(1), fc1.weight, fc1.bias)), fc2.weight, fc2.bias)
    torch.testing.assert_close(net(x), logits, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("coordconv", HALVES)
@pytest.mark.parametrize("activation", choices("activation"))
@pytest.mark.parametrize("world", WORLDS)
def test_looks_are_identity_at_the_start_for_every_coordconv_and_activation(
    world, activation, coordconv
):
    net = make(world, activation=activation, coordconv=coordconv)
    (theta,) = net.looks(batch(world)[0] * 100 - 50)
    assert torch.equal(theta, identity(6))


def test_the_localization_net_starts_alike_whatever_the_classifier_and_the_activation_are():
    usual = make().transformer.localization.state_dict()
    for fields in ({"coordconv": "classifier"}, {"width": 2.5}, {"activation": "leaky-relu"}):
        other = make(**fields).transformer.localization.state_dict()
        assert other.keys() == usual.keys()
        assert all(torch.equal(other[name], usual[name]) for name in usual)


@pytest.mark.parametrize("coordconv", HALVES)
def test_channels_of_colour_stand_before_the_coordinates(coordconv):
    net = build(Experiment(coordconv=coordconv), spec(channels=3, classes=7))
    firsts = [
        next(m for m in half.modules() if isinstance(m, nn.Conv2d))
        for half in (net.transformer.localization, net.classifier)
    ]
    assert [conv.weight.shape[1] for conv in firsts] == [
        3 + 2 * there for there in HALVES[coordconv]
    ]
    assert net(batch(channels=3)[0]).shape == (6, 7)


# ---- any shape, any batch, any window ----


@pytest.mark.parametrize("model", choices("model"))
def test_an_exported_net_takes_any_batch_size(model):
    net, (x, _) = make("translated42", model=model).eval(), batch("translated42", 5)
    batches = torch.export.Dim("batch", min=1, max=64)
    free = torch.export.export(net, (x,), dynamic_shapes=({0: batches},)).module()
    with torch.no_grad():
        for count in (1, 3, 5):
            torch.testing.assert_close(free(x[:count]), net(x[:count]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize(
    "channels, size, output_size", [(1, (28, 40), (28, 40)), (3, (36, 52), (30, 24))]
)
def test_pictures_need_be_neither_square_nor_grey(model, channels, size, output_size):
    made_for = spec(channels=channels, size=size, output_size=output_size, classes=4)
    net = build(Experiment(model=model), made_for).eval()
    x = torch.rand(3, channels, *size)
    with torch.no_grad():
        assert net(x).shape == (3, 4)
        assert net.warped(x).shape == (3, channels, *output_size)
    net.train().loss(x, torch.tensor([0, 1, 3])).backward()


@pytest.mark.parametrize("model", choices("model"))
def test_every_net_says_what_its_classifier_sees_through_a_given_window(model):
    net, (x, _) = make(model=model, padding="zeros").eval(), batch()
    with torch.no_grad():
        torch.testing.assert_close(net.warped(x, identity(len(x))), x, atol=1e-5, rtol=0)
        half = affine(scale=0.5).expand(len(x), 2, 3)
        torch.testing.assert_close(net.warped(x, half), warp(x, half), atol=1e-5, rtol=0)
        assert net.logits_through(x, half).shape == (len(x), 10)
