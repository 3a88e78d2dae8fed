"""Birds: found, unpacked or refused by name; boxes as poses; what fixed windows cut out."""

import hashlib
import tarfile

import pytest
import torch
from PIL import Image
from test_data import alone  # noqa: F401  # no data of this machine

from stn_utils import data
from stn_utils.data import DataUnavailable, birds, load, sources
from stn_utils.warp import warp

RED, BLUE = (250, 0, 0), (0, 0, 250)
# Width and height of a picture, and the box of its bird; the last one overruns its picture.
PLACES = [
    ((320, 160), (40, 40, 80, 80)),
    ((160, 320), (16, 200, 64, 32)),
    ((200, 150), (100, 100, 100, 50)),
    ((160, 160), (100, 80, 90, 40)),
]
COUNT = 26  # of which every second is to train


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that passes for CUB-200-2011: a red bird that fills its box, on blue."""
    monkeypatch.setattr(birds, "PICTURES", COUNT)
    root = tmp_path / "made" / "CUB_200_2011"
    lines = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    boxes = []
    for i in range(COUNT):
        size, (x, y, width, height) = PLACES[i % len(PLACES)]
        kind = f"00{i // 13 + 1}.{('Red_Wing', 'Rock_Wren')[i // 13]}"
        picture = Image.new("RGB", size, BLUE)
        picture.paste(RED, (x, y, x + width, y + height))
        file = root / "images" / kind / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
        lines["images"].append(f"{i + 1} {kind}/{i}.png")
        lines["image_class_labels"].append(f"{i + 1} {i // 13 + 1}")
        lines["train_test_split"].append(f"{i + 1} {int(i % 2 == 0)}")
        boxes.append(f"{i + 1} {x:.1f} {y:.1f} {width:.1f} {height:.1f}")
    for name, text in {**lines, "bounding_boxes": boxes}.items():
        (root / f"{name}.txt").write_text("\n".join(text) + "\n")
    return root


@pytest.fixture
def found(folder, monkeypatch):
    monkeypatch.setenv("STN_DATA", str(folder.parent))
    return folder


def test_the_official_split_with_a_part_to_validate(found):
    world = load("birds", "photo160")
    assert (len(world.train), len(world.val), len(world.test)) == (11, 2, 13)
    assert world.spec.size == (160, 160) and world.spec.output_size == (96, 96)
    assert world.names == ["Red Wing", "Rock Wren"]
    assert world.source == "CUB, the folder STN_DATA"
    assert world.test.labels.tolist() == [i // 13 for i in range(1, COUNT, 2)]
    assert len(load("birds", "photo160", replica=True).train) == 13


def test_a_pose_is_the_window_that_shows_the_bird_and_nothing_else(found):
    world = load("birds", "photo160")
    x, _ = world.test.batch(slice(None))
    seen = warp(x, world.test.poses, size=(20, 20))[:, :, 2:-2, 2:-2]
    bird = torch.tensor(RED).view(3, 1, 1) / 255
    torch.testing.assert_close(seen, bird.expand_as(seen), atol=0.03, rtol=0)


def test_by_hand_where_a_box_lies_on_the_canvas():
    # 320x160 lies in the middle half of the canvas: x / 160 - 1, (y + 80) / 160 - 1.
    boxes, sizes = torch.tensor([[40.0, 40, 80, 80]]), torch.tensor([[320.0, 160]])
    expected = torch.tensor([[[0.25, 0, -0.5], [0, 0.25, 0]]])
    torch.testing.assert_close(birds.boxes_on_canvas(boxes, sizes), expected)


def red_share(split):
    """Of each picture: counted, and as its pose has it, the part beyond the picture cut off."""
    counted = (split.batch(slice(None))[0][:, 0] > 0.5).float().mean(dim=(1, 2))
    half, middle = split.poses[:, [0, 1], [0, 1]], split.poses[:, :, 2]
    sides = (middle + half).clamp(-1, 1) - (middle - half).clamp(-1, 1)
    return counted, sides.prod(dim=1) / 4


@pytest.mark.parametrize("name", ["photo160", *birds.CUTS])
def test_every_world_knows_where_its_birds_are(found, name):
    world = load("birds", name)
    assert world.name == name and world.spec.output_size == (96, 96)
    assert world.spec.size == ((160, 160) if name == "photo160" else (96, 96))
    for split in (world.train, world.val, world.test):
        torch.testing.assert_close(*red_share(split), atol=0.03, rtol=0)  # edges are blurred


def test_a_box_is_cut_out_as_a_square_with_a_tenth_of_room(found):
    world = load("birds", "photo-box")
    longer = world.test.poses[:, [0, 1], [0, 1]].amax(dim=1)
    torch.testing.assert_close(longer, torch.full_like(longer, 1 / 1.1))
    torch.testing.assert_close(world.test.poses[:, :, 2], torch.zeros(len(world.test), 2))


def test_random_windows_differ_stay_inside_and_come_again(found):
    poses = torch.eye(2, 3).expand(500, 2, 3)
    looks = [birds._anywhere(poses, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert looks[0].equal(looks[1]) and not looks[0].equal(looks[2])
    scale, place = looks[0][:, 0, 0], looks[0][:, :, 2].abs().amax(dim=1)
    assert 0.5 <= scale.min() < 0.53 and 0.77 < scale.max() <= 0.8
    assert (scale + place <= 1 + 1e-6).all()


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return hashlib.md5(archive.read_bytes()).hexdigest()


def test_the_authors_archive_is_checked_and_unpacked_once(folder, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    sum_ = pack(folder, tmp_path / birds.ARCHIVE)
    with pytest.raises(DataUnavailable, match=f"tgz is truncated or altered.*{sum_}"):
        birds.find()
    assert not (sources.cache_folder() / "CUB_200_2011").exists()
    monkeypatch.setattr(birds, "MD5", sum_)
    place, source = birds.find()
    assert place == sources.cache_folder() / "CUB_200_2011" and source.startswith("CUB, ")
    assert len(birds.read(place)[0][0][1]) == 13
    (tmp_path / birds.ARCHIVE).unlink()
    assert birds.find() == (place, "CUB, the cache")


def test_the_small_copy_says_that_it_is_one(folder, monkeypatch):
    folder.rename(folder.parent / "CUB_200_2011_s128")
    monkeypatch.setenv("STN_DATA", str(folder.parent))
    assert data.find("birds") == "CUB at 128, the folder STN_DATA"


def test_where_there_are_none_it_says_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("STN_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match="CUB_200_2011.tgz .*data.caltech.edu"):
        load("birds", "photo160")


def test_a_list_that_is_too_short_and_one_that_is_missing_are_named(found):
    path = found / "bounding_boxes.txt"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(DataUnavailable, match="bounding_boxes.txt is truncated or altered"):
        load("birds", "photo160")
    path.unlink()
    with pytest.raises(DataUnavailable, match="bounding_boxes.txt cannot be read"):
        load("birds", "photo160")


def test_a_picture_that_cannot_be_read_is_named(found):
    path = found / "images" / "001.Red_Wing" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataUnavailable, match=r"3\.png: not a picture"):
        load("birds", "photo160")


def test_other_worlds_are_too_small_for_them(found):
    with pytest.raises(ValueError, match="canvas of 28 pixels is too small for birds.*photo160"):
        load("birds", "clean28")


def test_where_there_are_none_digits_in_colour_can_stand_in(monkeypatch):
    monkeypatch.setenv("STN_FALLBACK", "glyphs")
    with pytest.warns(UserWarning, match="NOT birds: placed-glyphs"):
        world = load("birds", "photo160")
    assert world.dataset == "placed-glyphs" and world.train.images.shape == (1100, 3, 160, 160)
    seen = warp(world.test.batch(slice(0, 8))[0], world.test.poses[:8], size=(32, 32))
    assert seen.std(dim=(2, 3)).amin() > 0  # a digit, not its ground
    scale = world.test.poses[:, 0, 0]
    assert 0.33 < scale.min() < 0.4 and 0.6 < scale.max() < 0.69
