"""python -m stn_utils: an answer or one line that says what is wrong, never a traceback."""

import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import stn_utils
from stn_utils import __main__ as program
from stn_utils import cli as command
from stn_utils import doctor
from stn_utils import study as studies
from stn_utils.data import DATASETS, LICENCES, DataUnavailable, birds, sources


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Data is there, or not, as the test says; and main's warning style ends with the test."""

    def find(dataset="birds"):
        if dataset in ("fashion-mnist", "birds"):
            raise DataUnavailable(f"{dataset} was found nowhere")
        return {}, "the cache"

    monkeypatch.setattr(sources, "find", find)
    monkeypatch.setattr(birds, "find", find)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):  # of a cluster that the tests run on
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "arguments, nearest",
    [
        (["study", "vanila"], "'vanilla'"),
        (["study", "vanilla", "--rows", "clean-snt"], "'clean-stn'"),
        (["data", "mnits"], "'mnist'"),
        (["stduy"], "'study'"),
        (["study", "vanilla", "--seed", "3"], "'--seeds'"),
        (["train", "--modle", "stnet"], "'--model'"),
        (["train", "--model", "stnett"], "'stnet'"),
    ],
    ids=["study", "row", "dataset", "command", "flag", "field", "value"],
)
def test_an_unknown_name_ends_with_2_and_one_line_that_names_the_nearest(
    arguments, nearest, capsys
):
    assert command.main(arguments) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("error: ") and f"Did you mean {nearest}?" in line
    assert not output.out


@pytest.mark.parametrize(
    "arguments, named",
    [
        ([], "train | compare"),
        (["study"], "required: name. stn study --help"),
        (["doctor", "all"], "stn doctor takes no 'all'. stn doctor --help"),
        (["predict"], "RUN, IMAGE"),
        (["train", "--epochs"], "--epochs: expected one argument"),
        (["study", "vanilla", "--seeds", "0"], "--seeds: invalid choice: 0."),
        (["study", "vanilla", "--jobs", "two"], "--jobs: invalid int value: 'two'."),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_line_that_names_the_argument(
    arguments, named, capsys
):
    assert command.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line and len(line) < 200


def test_an_interrupt_ends_with_130_and_one_line(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "run_missing", interrupted)
    assert command.main(["study", "vanilla"]) == 130
    output = capsys.readouterr()
    assert output.err.startswith("Interrupted") and not output.out


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_study_on_an_absent_device_starts_no_runner(jobs, capsys):
    assert (
        command.main(["study", "vanilla", "--seeds", "1000", "--jobs", jobs, "--device", "tpu"])
        == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert "'tpu'" in line


@pytest.mark.parametrize("gpus, device", [(0, None), (2, "cuda:1"), (4, "cuda:3")])
def test_ranks_are_dealt_the_gpus_that_are_there(gpus, device, monkeypatch):
    seen = []
    monkeypatch.setattr(studies, "run_missing", lambda *arguments: seen.append(arguments[3]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert command.main(["study", "vanilla"]) == 0
    assert seen == [device]


def test_an_unknown_flag_before_the_command_is_refused_in_a_line(capsys):
    assert command.main(["--verbose", "data"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown flag '--verbose'")


def test_help_lists_the_subcommands(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("train", "compare", "predict", "data", "study", "doctor"))


def test_data_lists_every_set_with_source_and_licence_and_fails_if_one_is_absent(capsys):
    assert command.main(["data"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ABSENT" if "fash" in name or name == "birds" else "OK", name] for name in DATASETS
    ]
    assert "the cache" in lines[0] and LICENCES["mnist"] in lines[0]


def test_data_of_a_set_that_is_there_succeeds(capsys):
    assert command.main(["data", "mnist"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_birds_are_missed_only_where_they_are_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(sources, "find", lambda dataset: ({}, "the cache"))
    assert command.main(["data"]) == 0
    assert command.main(["data", "birds"]) == 1
    assert capsys.readouterr().out.count("ABSENT  birds ") == 2


def test_study_show_prints_the_table_and_runs_nothing(capsys, monkeypatch):
    monkeypatch.setattr(studies, "run_missing", lambda *_: pytest.fail("a study was run"))
    assert command.main(["study", "vanilla", "--show"]) == 0
    assert capsys.readouterr().out == studies.table(studies.load("vanilla")) + "\n"


def test_study_hands_its_flags_on(monkeypatch):
    seen = []
    monkeypatch.setattr(
        studies, "run_missing", lambda study, *arguments: seen.append((study.name, *arguments))
    )
    assert (
        command.main(
            [
                "study",
                "vanilla",
                "--rows",
                "clean-stn",
                "--seeds",
                "2",
                "--device",
                "cpu",
                "--jobs",
                "2",
                "--stack",
                "8",
            ]
        )
        == 0
    )
    assert seen == [("vanilla", ["clean-stn"], 2, "cpu", 2, (0, 1), 8)]


def test_a_reader_that_has_closed_is_no_error():
    done = subprocess.Popen([sys.executable, "-m", "stn_utils", "study", "vanilla", "--show"], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, cwd=Path(__file__).parents[1])  # fmt: skip
    done.stdout.close()  # long before it has anything to print
    assert done.stderr.read() == b"" and done.wait() == 0


def test_under_torchrun_a_rank_takes_its_share_and_the_first_alone_prints_the_table(
    monkeypatch, capsys
):
    seen = []
    monkeypatch.setattr(studies, "run_missing", lambda *arguments: seen.append(arguments[-2]))
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in (0, 2):
        monkeypatch.setenv("RANK", str(rank))
        assert command.main(["study", "vanilla"]) == 0
        assert bool(capsys.readouterr().out) == (rank == 0)
    assert seen == [(0, 3), (2, 3)]


@pytest.mark.parametrize(
    "rank, ranks", [("a", "2"), ("0", None), (None, "4"), ("1.0", "2"), ("-1", "2"), ("", "2")]
)
def test_a_rank_without_its_number_runs_nothing(rank, ranks, monkeypatch, capsys):
    monkeypatch.setattr(studies, "run_missing", lambda *_: pytest.fail("a study was run"))
    for name, value in (("RANK", rank), ("WORLD_SIZE", ranks)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert command.main(["study", "vanilla"]) == 2
    line = capsys.readouterr().err
    assert (
        f"RANK and WORLD_SIZE: expected two whole numbers, or neither; got {rank or ''!r} and {ranks or ''!r}."
        in line
    )


def test_a_table_says_how_many_runs_are_not_in_yet(monkeypatch, capsys):
    monkeypatch.setattr(studies.Study, "missing", lambda self: [("clean-stn", 1)] * 3)
    assert command.main(["study", "vanilla", "--show"]) == 0
    assert "\n3 runs of the plan not in yet; the whole plan costs " in capsys.readouterr().out


def test_doctor_prints_one_line_a_part(capsys):
    command.main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(doctor.PARTS)
    for line, part in zip(lines, doctor.PARTS):
        assert line.startswith((f"OK     {part}", f"TO DO  {part}"))


def test_doctor_says_what_to_do_about_each_part_that_fails_and_ends_with_1(capsys, monkeypatch):
    def fails():
        raise ImportError("no module\nsecond line")

    monkeypatch.setattr(
        doctor, "PARTS", {"good": lambda: "1.0", "bad": fails, "data": doctor._data}
    )
    assert command.main(["doctor"]) == 1
    good, bad, data = capsys.readouterr().out.splitlines()
    assert good.split() == ["OK", "good", "1.0"]
    assert bad.startswith("TO DO  bad") and "no module" in bad
    assert data.startswith("OK") and "the cache" in data


def test_doctor_ends_with_0_where_all_is_well(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "PARTS", {"good": lambda: "1.0"})
    assert command.main(["doctor"]) == 0


def test_an_interrupt_while_torch_is_being_imported_is_one_line(capsys, monkeypatch):
    class Interrupted:
        def find_spec(self, name, path=None, target=None):
            if name == "stn_utils.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "stn_utils.cli")
    monkeypatch.delattr(stn_utils, "cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert program.main() == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.parametrize("arguments", [
    ["train", "--config", ""], ["train", "--device", ""], ["train", "--data", ""], ["train", "--runs", ""],
    ["compare", "a", "--plot", ""], ["compare", ""], ["predict", "", "a.png"], ["predict", "a", ""],
    ["predict", "a", "b.png", "--out", ""], ["export", ""], ["study", ""], ["study", "vanilla", "--rows", ""],
])  # fmt: skip
def test_an_empty_word_is_refused_not_taken_for_the_default(arguments, capsys):
    assert command.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a value, got ''" in line or "unknown" in line


def test_an_unknown_row_is_named_where_a_table_is_shown(capsys):
    assert command.main(["study", "vanilla", "--show", "--rows", "clean-snt"]) == 2
    assert "Did you mean 'clean-stn'?" in capsys.readouterr().err


@pytest.mark.parametrize("flag, value", [
    ("--batch-size", "9" * 23), ("--epochs", "9" * 9), ("--steps", "101"), ("--n-train", "9" * 9),
    ("--output-size", "100000"), ("--lr", "inf"), ("--width", "17"), ("--seed", "9" * 14),
])  # fmt: skip
def test_a_number_that_nobody_means_is_refused_before_anything_is_made(
    flag, value, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert command.main(["train", "--dataset", "glyphs", "--model", "sequential", flag, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert flag[2:].replace("-", "_") in line and not list(tmp_path.iterdir())
