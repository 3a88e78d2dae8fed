"""Experiment: validation that names the nearest, in a line; copies, JSON, budget."""

import json

import pytest

from stn_utils.experiment import BELONGS, Experiment, budget, check_field, choices, explain, one_of

FIELDS = [  # a wrong name, and the nearest
    ("paddding", "padding"), ("patence", "patience"), ("coordconf", "coordconv"), ("activations", "activation"),
    ("widht", "width"), ("action", "actions"), ("step", "steps"),
]  # fmt: skip
VALUES = [  # a field, a wrong name in it, and the nearest
    ("dataset", "fashion", "fashion-mnist"),
    ("world", "rotated", "rotated28"),
    ("model", "stn", "stnet"),
    ("normalize", "befor", "before"),
    ("normalize", "localisation", "localization"),
    ("padding", "reflect", "reflection"),
    ("optimizer", "Adam", "adam"),
    ("coordconv", "localisation", "localization"),
    ("coordconv", "clasifier", "classifier"),
    ("activation", "leaky_relu", "leaky-relu"),
    ("actions", "shift-zoom", "shifts-zooms"),
    ("policy", "learn", "learned"),
    ("recurrence", "correct", "corrected"),
    ("classifier", "fnc", "fcn"),
    ("family", "rotations", "rotation"),
    ("model", "reinforce", "reinforced"),
]


@pytest.mark.parametrize("wrong, near", FIELDS)
def test_an_unknown_field_raises_and_names_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=rf"unknown field '{wrong}'\. Did you mean '{near}'\?"):
        Experiment(**{wrong: 3})


@pytest.mark.parametrize("field, wrong, near", VALUES)
def test_an_unknown_name_in_a_field_raises_and_names_the_nearest(field, wrong, near):
    with pytest.raises(ValueError, match=rf"unknown {field} '{wrong}'\. Did you mean '{near}'\?"):
        Experiment(**{field: wrong})


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"learning": 1}, "unknown field 'learning'"),
        ({"world": "cluttered"}, "world 'cluttered'. Did you mean 'cluttered"),
        (
            {"coordconv": True},
            "coordconv: True is no value of it. Valid: none, localization, classifier, both.",
        ),
        ({"epochs": True}, "epochs: True is no value of it."),
        ({"activation": "ReLU"}, "unknown activation 'ReLU'"),
    ],
)
def test_what_has_no_one_nearest_is_refused_all_the_same(wrong, named):
    with pytest.raises(ValueError) as error:
        Experiment(**wrong)
    assert named in str(error.value)


def test_a_name_unlike_all_others_gets_the_list_and_no_guess():
    with pytest.raises(ValueError, match="unknown fruit 'xyz'. Valid: apple, pear.") as error:
        one_of("fruit", "xyz", ("apple", "pear"))
    assert "Did you mean" not in str(error.value)
    assert one_of("fruit", "pear", ("apple", "pear")) == "pear"


@pytest.mark.parametrize(
    "field, value",
    [
        ("output_size", 15), ("lr", 0.0), ("lr", -1.0), ("lr", float("inf")), ("lr", float("nan")), ("loc_lr_ratio", -0.1),
        ("loc_lr_ratio", float("inf")), ("batch_size", 0), ("epochs", -1), ("epochs", 1.5), ("n_train", 0),
        ("seed", -1), ("seed", "one"), ("mean", float("nan")), ("mean", float("inf")), ("std", 0.0), ("std", -0.3),
        ("std", float("inf")), ("grad_clip", 0.0), ("grad_clip", -1.0), ("grad_clip", float("inf")), ("grad_clip", float("nan")),
        ("patience", 0), ("patience", 2.5), ("augment", "perhaps"), ("width", 0.0), ("width", -1.0), ("width", 16.5),
        ("width", float("nan")), ("width", float("inf")), ("width", "wide"), ("width", None),
    ],
)  # fmt: skip
def test_values_out_of_range_raise_and_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        Experiment(**{field: value})


@pytest.mark.parametrize("momentum", [1.0, -0.1, float("nan")])
def test_momentum_of_sgd_lies_between_0_and_1(momentum):
    with pytest.raises(ValueError, match="momentum"):
        Experiment(optimizer="sgd", momentum=momentum)


def test_momentum_with_adam_raises_rather_than_being_ignored():
    with pytest.raises(ValueError, match="momentum=0.9 belongs to optimizer='sgd', not 'adam'"):
        Experiment(optimizer="adam", momentum=0.9)
    assert Experiment(optimizer="sgd", momentum=0.9).momentum == 0.9


def test_an_experiment_is_frozen_and_hashable():
    experiment = Experiment()
    with pytest.raises(ValueError, match="frozen"):
        experiment.seed = 1
    assert experiment.seed == 0
    assert len({experiment, Experiment(), Experiment(seed=1)}) == 2


def test_but_changes_a_copy_and_only_what_it_is_told():
    experiment = Experiment(world="rotated28", seed=3)
    changed = experiment.replace(seed=4)
    assert experiment.seed == 3
    assert changed == Experiment(world="rotated28", seed=4)


@pytest.mark.parametrize("changes", [{"sead": 1}, {"momentum": 0.9}, {"lr": -1}])
def test_but_validates_like_a_new_one(changes):
    with pytest.raises(ValueError):
        Experiment().replace(**changes)


OF_THE_LOCALIZATION_NET = [
    {"coordconv": "localization"},
    {"coordconv": "both"},
    {"activation": "leaky-relu"},
]


OF_NO_NET = [{"coordconv": "both"}, {"coordconv": "localization"}, {"normalize": "localization"}]


@pytest.mark.parametrize("wanted", OF_NO_NET, ids=str)
@pytest.mark.parametrize(
    "net", [{"model": "convnet"}, {"model": "reinforced", "policy": "random"}], ids=str
)
def test_nothing_is_asked_of_a_localization_net_that_is_not_there(net, wanted):
    ((field, value),) = wanted.items()
    with pytest.raises(
        ValueError,
        match=f"{field}='{value}' changes the localization net, and this {net['model']} has none",
    ):
        Experiment(**net, **wanted)
    assert getattr(Experiment(model="reinforced", **wanted), field) == value


def test_sampling_again_belongs_to_the_corrected_recurrence():
    with pytest.raises(
        ValueError, match="resample=True belongs to recurrence='composed' or 'corrected', not 's0'"
    ):
        Experiment(model="sequential", resample=True, recurrence="s0")


@pytest.mark.parametrize("wanted", OF_THE_LOCALIZATION_NET, ids=str)
def test_what_changes_a_localization_net_is_refused_for_a_net_without_one_by_field_and_value(
    wanted,
):
    ((field, value),) = wanted.items()
    with pytest.raises(
        ValueError,
        match=f"{field}='{value}' (changes the localization net|belongs to stnet or sequential)",
    ):
        Experiment(model="convnet", **wanted)
    with pytest.raises(ValueError, match=f"{field}='{value}'"):
        Experiment(**wanted).replace(model="convnet")
    assert getattr(Experiment(model="stnet", **wanted), field) == value


def test_a_convnet_may_have_coordconv_in_its_classifier_and_any_net_any_width():
    assert Experiment(model="convnet", coordconv="classifier", width=1.13).coordconv == "classifier"
    assert Experiment(model="stnet", coordconv="both", width=16).width == 16


OTHERWISE = {  # a value of each option that not every model has, other than its default, and the models that have it
    "activation": ("leaky-relu", "stnet or sequential"),
    "family": ("rotation", "stnet"),
    "windows": (2, "stnet"),
    "at": ("conv1", "stnet"),
    "steps": (5, "sequential or reinforced"),
    "recurrence": ("s0", "sequential"),
    "resample": (True, "sequential"),
    "actions": ("turns", "reinforced"),
    "pose": ("moments", "convnet or stnet or sequential"),
    "policy": ("random", "reinforced"),
    "gamma": (0.5, "reinforced"),
    "entropy": (0.0, "reinforced"),
}


def test_every_option_that_belongs_to_some_models_is_in_the_table():
    assert {name: " or ".join(models) for name, models in BELONGS.items()} == {
        n: m for n, (_, m) in OTHERWISE.items()
    }
    for name, (value, _) in OTHERWISE.items():
        assert value != getattr(Experiment(), name)


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize("name", OTHERWISE)
def test_an_option_is_taken_by_the_models_it_belongs_to_and_refused_by_the_others_by_name(
    name, model
):
    value, models = OTHERWISE[name]
    if model in models.split(" or "):
        assert getattr(Experiment(model=model, **{name: value}), name) == value
    else:
        wanted = f"{name}={value!r} belongs to {models}, not to model={model!r}."
        assert fault(model=model, **{name: value}) == wanted
        home = Experiment(model=models.split(" or ")[0], **{name: value})
        with pytest.raises(ValueError, match=f"{name}={value!r} belongs to"):
            home.replace(model=model)


@pytest.mark.parametrize("model", choices("model"))
def test_defaults_are_accepted_by_every_model_even_when_they_are_said(model):
    said = {name: getattr(Experiment(), name) for name in BELONGS}
    assert Experiment(model=model, **said) == Experiment(model=model)


@pytest.mark.parametrize("model", choices("model"))
def test_the_dense_classifier_goes_with_every_model_but_not_with_what_changes_convolutions(model):
    assert Experiment(model=model, classifier="fcn").classifier == "fcn"
    for wrong in ({"coordconv": "classifier"}, {"width": 2.0}, {"width": 0.5}):
        with pytest.raises(
            ValueError,
            match="classifier='fcn' has no convolutions to change: coordconv, channels and width",
        ):
            Experiment(model=model, classifier="fcn", **wrong)


def test_a_dense_classifier_may_have_coordconv_in_its_localization_net_but_not_in_both():
    assert Experiment(classifier="fcn", coordconv="localization").coordconv == "localization"
    with pytest.raises(ValueError, match="classifier='fcn'"):
        Experiment(classifier="fcn", coordconv="both")


@pytest.mark.parametrize(
    "field, values, limit",
    [
        ("steps", [0, -1, 1.5, "many"], [1, 100]),
        ("gamma", [1.5, -0.1, float("nan"), float("inf")], [0.0, 1.0]),
        ("entropy", [-1, -1e-9, float("nan"), float("inf")], [0.0, 100.0]),
    ],
)
def test_values_of_a_reinforced_transformer_out_of_range_raise_and_name_the_field_and_the_limits_do_not(
    field, values, limit
):
    for value in values:
        assert fault(model="reinforced", **{field: value}).startswith(f"{field}: ")
    for value in limit:
        assert getattr(Experiment(model="reinforced", **{field: value}), field) == value


def test_json_round_trip_keeps_every_field():
    convnet = Experiment(
        dataset="glyphs", world="translated42", model="convnet", output_size=20, normalize="after", padding="border",
        optimizer="sgd", lr=0.1 + 0.2, loc_lr_ratio=0.1, momentum=0.9, batch_size=7, epochs=2, n_train=100,
        replica=True, seed=11, mean=0.1, std=0.3, grad_clip=1.0, patience=3, augment=True, coordconv="classifier", width=1.13,
        channels="s2",
    )  # fmt: skip
    others = [  # what a convnet cannot have
        Experiment(coordconv="both", activation="leaky-relu", family="rotation", classifier="cnn"),
        Experiment(model="sequential", steps=5, recurrence="s0", classifier="fcn"),
        Experiment(model="sequential", resample=True),
        Experiment(at="shared", windows=2),
        Experiment(pose="axis"),
        Experiment(classifier="efficientnet-lite0", tuned_layers=3),
        Experiment(model="reinforced", actions="s0", policy="random"),
        Experiment(model="reinforced", gamma=0.5, entropy=0.0),
    ]
    usual = Experiment().model_dump()
    changed = {
        name
        for experiment in (convnet, *others)
        for name, value in experiment.model_dump().items()
        if value != usual[name]
    }
    assert changed == set(Experiment.model_fields)  # none of them left at its default in all
    for experiment in (convnet, *others):
        text = experiment.model_dump_json()
        assert Experiment.model_validate_json(text) == experiment
        assert Experiment(**json.loads(text)) == experiment


def test_json_with_a_misspelt_field_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        Experiment.model_validate_json('{"epoch": 3}')


NEW = {  # what came later, and the value that leaves everything as it was
    "mean": None, "std": None, "grad_clip": None, "patience": None, "augment": False,
    "coordconv": "none", "activation": "relu", "width": 1.0, "channels": "tutorial", "family": "affine", "steps": 2, "recurrence": "composed",
    "resample": False, "actions": "all", "policy": "learned", "gamma": 0.98, "entropy": 0.05, "classifier": "cnn",
}  # fmt: skip


def test_what_is_new_changes_nothing_unless_it_is_asked_for():
    assert {name: getattr(Experiment(), name) for name in NEW} == NEW
    old = {
        name: value for name, value in Experiment(seed=3).model_dump().items() if name not in NEW
    }
    assert Experiment(**old) == Experiment(seed=3)  # a record from before


def test_a_record_from_before_composed_looks_is_the_experiment_that_it_was():
    """All of them say recurrence="corrected"; of a network with several looks it was true."""
    assert Experiment(model="stnet", recurrence="corrected") == Experiment(model="stnet")
    assert Experiment(recurrence="corrected", seed=3) == Experiment(seed=3)
    assert Experiment(model="sequential", recurrence="corrected").recurrence == "corrected"
    with pytest.raises(ValueError, match="recurrence='s0' belongs to sequential"):
        Experiment(model="stnet", recurrence="s0")


def test_json_from_before_coordconv_was_known_loads_as_the_experiment_that_it_was():
    text = """{"dataset": "mnist", "world": "rts42", "model": "convnet", "view": null, "normalize": "before",
        "padding": "background", "optimizer": "sgd", "lr": 0.01, "loc_lr_ratio": 1.0, "momentum": 0.9, "batch_size": 64,
        "epochs": 8, "n_train": 20000, "replica": false, "seed": 1000}"""
    old = Experiment.model_validate_json(text)
    assert old == Experiment(
        world="rts42",
        model="convnet",
        optimizer="sgd",
        lr=0.01,
        momentum=0.9,
        epochs=8,
        n_train=20000,
        seed=1000,
    )
    assert (old.coordconv, old.activation, old.width) == ("none", "relu", 1.0)


def test_check_field_takes_every_valid_pair_and_leaves_ranges_to_the_experiment():
    for name, value in Experiment().model_dump().items():
        check_field(name, value)
    check_field("epochs", "five")


@pytest.mark.parametrize(
    "name, value, named",
    [("epoch", 3, "field 'epoch'. Did you mean 'epochs'"), (7, 3, "field 7"), ("world", None, "world None"),
     ("world", ["s3"], r"world \['s3'\]")],
)  # fmt: skip
def test_check_field_names_what_it_does_not_know_of_whatever_type(name, value, named):
    with pytest.raises(ValueError, match=f"unknown {named}"):
        check_field(name, value)


def fault(**fields):
    with pytest.raises(ValueError) as error:
        Experiment(**fields)
    return explain(error.value)


def test_explain_says_each_fault_in_one_line_with_its_field_and_what_was_given():
    line = fault(epochs="five", lr=-1.0)
    assert "\n" not in line and "pydantic" not in line
    epochs, lr = sorted(line.split("; "))
    assert epochs.startswith("epochs: ") and "'five'" in epochs
    assert lr.startswith("lr: ") and "greater than 0" in lr and "-1.0" in lr


def test_explain_leaves_our_own_words_as_they_are():
    assert fault(momentum=0.9) == "momentum=0.9 belongs to optimizer='sgd', not 'adam'."
    assert fault(sead=1).startswith("unknown field 'sead'. Did you mean 'seed'?")
    assert explain(ValueError("as it is")) == "as it is"


def test_choices_are_the_names_that_validation_accepts():
    assert choices("padding") == ("zeros", "border", "reflection", "background")
    for name in choices("model"):
        assert Experiment(model=name).model == name


@pytest.mark.parametrize(
    "setting, expected", [(None, "full"), ("", "full"), ("0", "full"), ("1", "fast")]
)
def test_budget_is_full_unless_stn_fast_is_1(monkeypatch, setting, expected):
    monkeypatch.delenv("STN_FAST", raising=False)
    if setting is not None:
        monkeypatch.setenv("STN_FAST", setting)
    assert budget(full="full", fast="fast") == expected


OLD = [
    ("view", "output_size", 28),
    ("clip", "grad_clip", 1.5),
    ("give_up", "patience", 3),
    ("fresh", "augment", True),
]


@pytest.mark.parametrize("old, new, value", OLD)
def test_a_field_is_known_by_the_name_that_records_have(old, new, value):
    experiment = Experiment(world="rts42", **{old: value})
    assert (
        getattr(experiment, new)
        == value
        == getattr(Experiment(world="rts42").replace(**{old: value}), new)
    )
    on_disk = experiment.model_dump(by_alias=True)
    assert on_disk[old] == value and new not in on_disk
    assert Experiment(**on_disk) == experiment == Experiment(**experiment.model_dump())
    with pytest.raises(ValueError, match=f"^1 validation error for Experiment\n{new}"):
        Experiment(**{old: "much"})


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(augment=True), "augment=True: in world='clean28' nothing is drawn anew"),
        (
            dict(model="reinforced", policy="random", gamma=0.5),
            "gamma=0.5 belongs to a policy that learns",
        ),
        (
            dict(model="reinforced", policy="identity", entropy=0.0),
            "entropy=0.0 belongs to a policy that learns",
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**fields)
