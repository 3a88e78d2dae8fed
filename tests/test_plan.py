"""A study's plan: its faults are named before anything runs, its records are told from mismatched."""

import json

import pytest
from tiny_study import made_up, write_plan, write_records

from stn_utils import study as studies
from stn_utils.experiment import Experiment
from stn_utils.study import append, table

TEXT = """\
question: does it run?
cost: nothing
seeds: 2
contrasts:
  - [stn, cnn]
common:
  dataset: glyphs
  epochs: 1
rows:
  stn: &base
    model: stnet
  cnn:
    model: convnet
"""

FAULTS = {  # what to change in TEXT, the place to be named, and what must be said
    "unknown field": ("cost: nothing", "costs: nothing", ": ", "unknown field 'costs'. Did you mean 'cost'?"),
    "field of an Experiment, on top": ("seeds: 2", "epochs: 2", ": ", "unknown field 'epochs'"),
    "a field that is not the file's": ("seeds: 2", "seeds: 2\nfolder: /", ": ", "unknown field 'folder'"),
    "unknown field in a row": ("model: convnet", "modle: convnet", ": rows.cnn: ", "unknown field 'modle'. Did you mean 'model'?"),
    "unknown field in common": ("epochs: 1", "epoch: 1", ": common: ", "unknown field 'epoch'. Did you mean 'epochs'?"),
    "unknown value in a row": ("model: convnet", "model: covnet", ": rows.cnn: ", "unknown model 'covnet'. Did you mean 'convnet'?"),
    "unknown value in common": ("dataset: glyphs", "dataset: glyph", ": common: ", "unknown dataset 'glyph'. Did you mean 'glyphs'?"),
    "unknown column": ("seeds: 2", "seeds: 2\ncolumns: [top1,\n  colapsed]", ": columns.1: ", "'collapsed'"),
    "unknown measure": ("seeds: 2", "seeds: 2\nmeasure: top1", ": measure: ", "'test_top1'"),
    "unknown row in a contrast": ("[stn, cnn]", "[snt, cnn]", ": ", "unknown row in contrasts 'snt'. Did you mean 'stn'?"),
    "unknown row in the names": ("seeds: 2", "seeds: 2\nnames:\n  snt: it", ": ", "unknown row in names 'snt'. Did you mean 'stn'?"),
    "another contrast's row": ("[stn, cnn]", "[stn, cnn]\n  - [stn, cnm]", ": ", "'cnm'. Did you mean 'cnn'?"),
    "three rows in a contrast": ("[stn, cnn]", "[stn, cnn, stn]", ": contrasts.0: ", "contrasts.0"),
    "contrasts that are no pairs": ("  - [stn, cnn]", "  stn", ": contrasts: ", "contrasts: expected a valid list"),
    "wrong type in common": ("epochs: 1", "epochs: five", ": common: epochs: ", "epochs: expected a valid integer"),
    "wrong type in a row": ("model: convnet", "model: convnet\n    lr: fast", ": rows.cnn: lr: ", "lr: expected a valid number"),
    "wrong type of seeds": ("seeds: 2", "seeds: many", ": seeds: ", "seeds: expected a valid integer"),
    "out of range": ("model: convnet", "model: convnet\n    lr: -1", ": rows.cnn: lr: ", "lr: expected greater than 0"),
    "no seeds": ("seeds: 2", "seeds: 0", ": seeds: ", "seeds: expected greater than or equal to 1"),
    "a row's seeds": ("model: convnet", "model: convnet\n    seeds: many", ": own_seeds.cnn: ", "cnn: expected a valid integer"),
    "no seeds for a row": ("model: convnet", "model: convnet\n    seeds: 0", ": own_seeds.cnn: ", "cnn: expected greater than or equal"),
    "seeds below 0": ("seeds: 2", "seeds: 2\nfirst_seed: -1", ": first_seed: ", "first_seed: expected greater than or equal to 0"),
    "fields that do not fit": ("model: convnet", "model: convnet\n    momentum: 0.9", ": rows.cnn: ", "belongs to optimizer='sgd'"),
    "a row twice": ("  cnn:", "  stn:\n    model: stnet\n  cnn:", ", line 12: ", "'stn' stands twice"),
    "a field twice": ("cost: nothing", "cost: nothing\ncost: much", ", line 3: ", "'cost' stands twice"),
    "a row's field twice": ("model: convnet", "model: convnet\n    model: stnet", ", line 14: ", "'model' stands twice"),
    "a field of common twice": ("epochs: 1", "epochs: 1\n  epochs: 2", ", line 9: ", "'epochs' stands twice"),
    "a value from a merge": ("model: stnet", "model: stnet\n    world: s4\n  new: {<<: *base}", ": rows.stn: ", "unknown world 's4'"),
    "a number from a merge": ("    model: convnet", "    <<: &odd\n      lr: -1\n    model: convnet", ": rows.cnn: ", "lr: expected"),
    "a row's own over a merge": ("model: convnet", "model: covnet\n    <<: *base", ": rows.cnn: ", "unknown model 'covnet'"),
    "two merges at once": ("  cnn:", "  new: {<<: [*base, {lr: -1}]}\n  cnn:", ": rows.new: ", "lr: expected greater than 0"),
    "a row from nowhere": ("  cnn:", "  cnn: *bass\n  cnn2:", ", line 12: ", "found undefined alias 'bass'"),
    "a row without fields": ("    model: convnet", "", ": rows.cnn: ", "one a line, got nothing"),
    "a row that is a word": ("  cnn:\n    model: convnet", "  cnn: convnet", ": rows.cnn: ", "one a line, got 'convnet'"),
    "a row named by a number": ("  cnn:", "  2:", ": rows.2.[key]: ", "expected a valid string, got 2"),
    "a row named by a list": ("  cnn:", "  ? [c, n]\n  :", ", line 12: ", "found unhashable key"),
    "common that is a list": ("  dataset: glyphs\n  epochs: 1", "  - dataset", ": common: ", "one a line, got ['dataset']"),
    "broken brackets": ("[stn, cnn]", "[stn, cnn", ", line 6: ", "expected ',' or ']'"),
    "broken indentation": ("  epochs: 1", "   epochs: 1", ", line 8: ", "mapping values are not allowed here"),
    "a tab": ("  epochs: 1", "\tepochs: 1", ", line 8: ", "found character '\\t' that cannot start any token"),
    "a character that is none": ("cost: nothing", "cost: no\x01thing", ": ", "unacceptable character #x0001"),
}  # fmt: skip


@pytest.mark.parametrize("old, new, place, named", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_a_plan_is_named_with_its_place_and_what_would_be_right(
    tmp_path, old, new, place, named
):
    assert TEXT.count(old) == 1
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError) as error:
        studies.load("tiny", tmp_path)
    assert str(error.value).startswith(f"{path}{place}")
    assert named in str(error.value)


WHOLE = {
    "nothing": ("", "expected fields and values, one a line, got nothing"),
    "a list": ("- stn\n- cnn\n", "expected fields and values, one a line, got ['stn', 'cnn']"),
    "no question": (TEXT.partition("\n")[2], "question: Field required"),
    "no rows": (TEXT.partition("rows:")[0], "rows: "),
    "rows that are a list": (
        TEXT.partition("rows:")[0] + "rows:\n  - stn\n",
        "rows: expected fields and values, one a line",
    ),
    "rows that are empty": (
        TEXT.partition("rows:")[0] + "rows:\n",
        "rows: expected fields and values, one a line",
    ),
}


@pytest.mark.parametrize("text, named", WHOLE.values(), ids=WHOLE)
def test_a_file_that_is_no_whole_plan_is_named_in_a_line(tmp_path, text, named):
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        studies.load("tiny", tmp_path)
    assert str(error.value).startswith(f"{path}: ") and named in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 150


COMMON = {"field": "epoch: 1", "name": "model: stn", "type": "lr: fast", "pair": "momentum: 0.9"}


@pytest.mark.parametrize("fault", COMMON.values(), ids=COMMON)
def test_a_fault_in_common_is_said_once_and_not_once_a_row(tmp_path, fault):
    (tmp_path / "tiny.yaml").write_text(TEXT.replace("epochs: 1", fault))
    with pytest.raises(ValueError) as error:
        studies.load("tiny", tmp_path)
    said = str(error.value).removeprefix(f"{tmp_path}/tiny.yaml: ")
    assert said.count(fault.partition(":")[0]) - said.count("epochs") == 1
    place = "rows.stn: " if fault == COMMON["pair"] else "common: "  # for more may come there
    assert said.startswith(place) and "rows.cnn" not in said


def test_a_field_of_common_may_want_another_that_a_row_has(tmp_path):
    rows = {"a": {"optimizer": "sgd"}, "b": {"momentum": 0}}
    common = {"dataset": "glyphs", "momentum": 0.9}
    plan = studies.load("tiny", write_plan(tmp_path, common=common, rows=rows, contrasts=[]))
    assert (plan.rows["a"].momentum, plan.rows["b"].momentum) == (0.9, 0)


def test_the_text_that_the_faults_are_put_into_is_a_plan(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TEXT)
    plan = studies.load("tiny", tmp_path)
    usual = Experiment(dataset="glyphs", epochs=1)
    assert plan.rows == {"stn": usual, "cnn": usual.replace(model="convnet")}
    assert plan.contrasts == [("stn", "cnn")]


def test_an_unknown_study_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="'tinny'. Did you mean 'tiny'"):
        studies.load("tinny", write_plan(tmp_path))


def test_a_rows_own_fields_win_over_the_common_ones(tmp_path):
    plan = studies.load("tiny", write_plan(tmp_path, rows={"a": {"epochs": 7}}, contrasts=[]))
    assert (plan.rows["a"].epochs, plan.rows["a"].n_train) == (7, 64)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_the_shares_of_all_ranks_are_the_study_and_do_not_move_when_records_come(tiny, ranks):
    shares = [tiny.missing(shard=(rank, ranks)) for rank in range(ranks)]
    assert sorted(pair for share in shares for pair in share) == sorted(tiny.missing())
    append(tiny.path, made_up("stn", 1000))
    for rank, share in enumerate(shares):
        assert tiny.missing(shard=(rank, ranks)) == [
            pair for pair in share if pair != ("stn", 1000)
        ]


@pytest.mark.parametrize("rank, ranks", [(4, 4), (-1, 2), (0, 0)])
def test_a_rank_outside_its_ranks_is_refused_and_loses_no_run_in_silence(tiny, rank, ranks):
    with pytest.raises(ValueError, match=f"rank {rank} of {ranks}: ranks count from 0"):
        tiny.missing(shard=(rank, ranks))


def test_missing_goes_seed_by_seed_from_1000_and_leaves_out_what_is_done(tiny):
    append(tiny.path, made_up("cnn", 1000))
    assert tiny.missing() == [("stn", 1000), ("stn", 1001), ("cnn", 1001)]
    assert tiny.missing(rows=["cnn"], seeds=3) == [("cnn", 1001), ("cnn", 1002)]
    with pytest.raises(ValueError, match="'snt'. Did you mean 'stn'"):
        tiny.missing(rows=["snt"])


def test_a_row_may_have_seeds_of_its_own_more_or_fewer_than_the_plans(tmp_path):
    rows = {"few": {"seeds": 1}, "usual": {}, "many": {"seeds": 4}}
    plan = studies.load("tiny", write_plan(tmp_path, rows=rows, contrasts=[]))
    assert plan.missing() == [
        ("few", 1000), ("usual", 1000), ("many", 1000), ("usual", 1001), ("many", 1001), ("many", 1002), ("many", 1003),
    ]  # fmt: skip
    assert plan.missing(rows=["few"], seeds=2) == [("few", 1000), ("few", 1001)]
    assert plan.rows["few"] == plan.rows["usual"]


def test_a_merge_brings_fields_and_seeds_along_and_a_rows_own_win(tmp_path):
    text = TEXT.replace("model: stnet", "model: stnet\n    seeds: 5").replace(
        "  cnn:", "  cnn:\n    <<: *base\n    lr: 0.1"
    )
    (tmp_path / "tiny.yaml").write_text(text)
    plan = studies.load("tiny", tmp_path)
    assert (plan.rows["cnn"].model, plan.rows["cnn"].lr, plan.own_seeds) == (
        "convnet",
        0.1,
        {"stn": 5, "cnn": 5},
    )


# ---- records that are not the plan's ----

STRANGERS = {
    "a changed field": ({"lr": 0.5}, "lr: 0.5 in the record, 0.001 in the plan"),
    "two of them": ({"epochs": 2, "lr": 0.5}, "lr: 0.5 in the record, 0.001 in the plan; epochs: 2 in"),
    "a field of another version": ({"zoom": 2}, "unknown field 'zoom'"),
    "a value of another version": ({"world": "tiny9"}, "unknown world 'tiny9'"),
}  # fmt: skip


@pytest.mark.parametrize("change, named", STRANGERS.values(), ids=STRANGERS)
def test_a_record_whose_experiment_is_not_the_plans_is_named_and_left_out(tiny, change, named):
    write_records(tiny, {"stn": {1000: 0.98}, "cnn": {1000: 0.96, 1001: 0.965, 1002: 0.95}})
    without = table(tiny)
    record = made_up("stn", 1001, 0.1)
    append(tiny.path, {**record, "experiment": {**record["experiment"], **change}})
    assert tiny.missing() == [("stn", 1001)] and len(tiny.records()) == 4
    (line,) = table(tiny).removeprefix(without).splitlines()[1:]
    assert line.startswith(f"not counted: stn, seed 1001: {named}")


def test_a_record_of_a_row_that_left_the_plan_is_named_and_left_out(tiny):
    append(tiny.path, made_up("gone", 1000))
    assert tiny.records() == [] and tiny.mismatched() == [
        "gone, seed 1000: no such row in the plan"
    ]
    assert table(tiny).endswith("not counted: gone, seed 1000: no such row in the plan")


def test_a_record_from_before_a_field_was_known_is_the_plans(tiny):
    record = made_up("stn", 1000)
    assert "clip" not in record["experiment"] and "grad_clip" in Experiment.model_fields
    append(tiny.path, record)
    assert tiny.records() == [record] and tiny.mismatched() == []


def test_a_record_from_before_coordconv_was_known_is_the_plans_and_one_with_another_is_not(tiny):
    old = made_up("stn", 1000)
    assert not {"coordconv", "activation", "width"} & old["experiment"].keys()
    append(tiny.path, old)
    other = made_up("stn", 1001)
    append(
        tiny.path,
        {**other, "experiment": {**other["experiment"], "coordconv": "both", "width": 2.0}},
    )
    assert tiny.records() == [old]
    (text,) = tiny.mismatched()
    assert "coordconv: 'both' in the record, 'none' in the plan" in text
    assert "width: 2.0 in the record, 1.0 in the plan" in text


def test_records_by_row_and_seed_have_every_row_and_are_those_of_the_plan(tiny):
    write_records(tiny, {"stn": {1001: 0.98, 1000: 0.97}, "gone": {1000: 0.5}})
    (ours, theirs) = tiny.by_row().items()
    assert ours == ("stn", {record["seed"]: record for record in tiny.records()})
    assert sorted(ours[1]) == [1000, 1001] and theirs == ("cnn", {})


def nested(levels):
    """A map of maps of ... by aliases: few bytes, 9 to the power of `levels` keys."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        inner = ", ".join(f"k{i}: *a{level - 1}" for i in range(9))
        lines.append(f"a{level}: &a{level} {{{inner}}}")
    return "\n".join(lines).encode()


def nested_lists(levels):
    """A list whose last one holds 9 to the power of `levels` words."""
    lines = ["- &a0 [x]"]
    for level in range(1, levels):
        lines.append(f"- &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines).encode()


UNREADABLE = {
    "aliases of aliases": (nested(9), "unknown field 'a0'"),
    "aliases of aliases for a number": (b"seeds:\n" + nested_lists(9), "seeds: expected a valid"),
    "a list in itself": (b"rows: &a [*a]\n", "expected fields and values"),
    "a tag that does not fit": (
        b"question: q\ncost: !!timestamp x\n",
        "tiny.yaml: a value that cannot be read",
    ),
    "another": (b"question: q\nseeds: !!bool x\n", "tiny.yaml: a value that cannot be read"),
    "a number of 5,000 digits": (
        b"question: q\nseeds: " + b"9" * 5000 + b"\n",
        "tiny.yaml: .*5000 digits",
    ),
    "no UTF-8": (b"question: \xff\xfe\n", "tiny.yaml"),
    "deep brackets": (b"rows: " + b"[" * 3000, "tiny.yaml"),
    "a python object": (b"question: !!python/object/apply:os.system [ls]\n", "line 1: "),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_plan_is_named_and_soon(tmp_path, name):
    content, text = UNREADABLE[name]
    (tmp_path / "tiny.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=text) as fault:
        studies.load("tiny", tmp_path)
    assert "tiny.yaml" in str(fault.value) and len(str(fault.value)) < 400


@pytest.mark.parametrize("row", ["../../evil", "a/b", "..", ".", ""])
def test_a_row_has_a_name_that_a_folder_can_have(tmp_path, row):
    write_plan(tmp_path, rows={row: {"model": "stnet"}}, contrasts=[])
    with pytest.raises(ValueError, match=r"tiny\.yaml: rows\..*should match pattern .*, got "):
        studies.load("tiny", tmp_path)


def test_a_plan_asks_for_no_more_seeds_than_anybody_runs(tmp_path):
    with pytest.raises(ValueError, match="seeds"):
        studies.load("tiny", write_plan(tmp_path, seeds=10**9))


NO_RECORDS = [
    b"3", b"null", b"[]", b'"text"', b"{}", b"{not json}", b"\xff\xfe", b"9" * 5000,
    *(json.dumps({**made_up("stn", 1000), **change}).encode() for change in (
        {"row": 7}, {"experiment": []}, {"result": None}, {"result": {}}, {"history": 3},
        {"history": {"epoch": ["one"]}}, {"seed": "x"}, {"result": {"test_top1": 7, "parameters": 1}},
    )),
]  # fmt: skip


@pytest.mark.parametrize("line", NO_RECORDS, ids=range(len(NO_RECORDS)))
def test_a_line_that_is_no_record_is_named(tiny, line):
    tiny.path.write_bytes(json.dumps(made_up("stn", 1000)).encode() + b"\n" + line + b"\n")
    for ask in (tiny.records, tiny.mismatched, lambda: studies.table(tiny)):
        with pytest.raises(ValueError, match=r"tiny\.jsonl, line 2: not a record") as fault:
            ask()
        assert len(str(fault.value).splitlines()) == 1


def test_aliases_of_aliases_are_not_written_out_in_the_error(tmp_path):
    """Eight times eight times ... : a few lines of YAML, a megabyte where somebody prints it."""
    first = ", ".join(f"{key}: x" for key in "pqrstuvw")
    lines = [f"a0: &a0 {{{first}}}"]
    for i in range(1, 6):
        folded = ", ".join(f"{key}: *a{i - 1}" for key in "pqrstuvw")
        lines.append(f"a{i}: &a{i} {{{folded}}}")
    rows = f"rows:\n  x: {{batch_size: {{{', '.join(lines)}}}, model: *a5}}\n"
    (tmp_path / "folded.yaml").write_text(f"question: why?\ncost: none\n{rows}")
    with pytest.raises(ValueError, match="unknown model") as error:
        studies.load("folded", tmp_path)
    assert len(str(error.value)) < 1000
