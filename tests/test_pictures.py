"""Picture files: which are read and as what, what is refused before it is decoded, and ink on paper."""

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from stn_utils.data.glyphs import FONTS, draw
from stn_utils.data.pictures import as_tensor, centred, find_ink, read

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def saved(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return read(tmp_path / name)


def two_halves(kind="L", size=(6, 4)):
    """Dark on the left, light on the right."""
    image = Image.new("L", size, 0)
    image.paste(255, (size[0] // 2, 0, *size))
    return image.convert(kind)


@pytest.mark.parametrize("kind", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_grey_pictures_of_every_kind_are_read_as_grey(tmp_path, kind):
    name = "a.tif" if kind == "CMYK" else "a.png"
    image = saved(tmp_path, two_halves(kind), name)
    assert image.mode == "L" and image.size == (6, 4)
    left, right = as_tensor(image)[0, :, :3], as_tensor(image)[0, :, 3:]
    assert left.max() < 60 and right.min() > 180


def test_colour_stays_colour(tmp_path):
    image = saved(tmp_path, Image.new("RGB", (5, 4), (10, 20, 200)))
    assert as_tensor(image).shape == (3, 4, 5) and as_tensor(image)[:, 0, 0].tolist() == [
        10,
        20,
        200,
    ]


def test_sixteen_bits_and_floats_are_read(tmp_path):
    deep = np.zeros((4, 6), dtype=np.uint16)
    deep[:, 3:] = 51_400
    assert as_tensor(saved(tmp_path, Image.fromarray(deep)))[0, 0].tolist() == [0] * 3 + [200] * 3
    shallow = np.linspace(-2, 3, 24, dtype=np.float32).reshape(4, 6)
    values = as_tensor(saved(tmp_path, Image.fromarray(shallow), "a.tiff"))
    assert values.min() == 0 and values.max() == 255
    shallow[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"a\.tiff: not a picture .*nan or infinity"):
        saved(tmp_path, Image.fromarray(shallow), "a.tiff")


@pytest.mark.parametrize("ink, ground", [(255, 0), (0, 255)])
def test_what_is_drawn_on_nothing_stands_on_a_ground_unlike_it(tmp_path, ink, ground):
    drawing = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    drawing.paste((ink, ink, ink, 255), (15, 10, 25, 30))
    pixels = as_tensor(saved(tmp_path, drawing))[0]
    assert pixels[20, 20] == ink and pixels[2, 2] == ground


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image = saved(tmp_path, two_halves(), "a.jpg", exif=exif)
    assert image.size == (4, 6)
    assert as_tensor(image)[0, 0].max() < 60 and as_tensor(image)[0, -1].min() > 180


def png(width, height):
    """A PNG that says it is that large, and holds no pixel."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000), (9_000, 9_000), (60_000, 60_000)])
def test_a_picture_too_large_is_refused_before_it_is_decoded(tmp_path, size, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    (tmp_path / "bomb.png").write_bytes(png(*size))
    with pytest.raises(ValueError, match=r"bomb\.png: not a picture .*(at most|exceeds limit)"):
        read(tmp_path / "bomb.png")


def test_a_program_that_calls_itself_a_picture_is_not_run(tmp_path):
    script = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({tmp_path}/ran) (w) file closefile\n"
    )
    (tmp_path / "digit.png").write_text(script)
    with pytest.raises(ValueError, match=r"digit\.png: not a picture"):
        read(tmp_path / "digit.png")
    assert not (tmp_path / "ran").exists()


def test_a_file_is_named_whatever_the_decoder_raises(tmp_path, monkeypatch):
    """Some Pillows say of a cut .tif that it is cut with a ValueError that names no file."""

    def fail(image):
        raise ValueError("buffer is not large enough")

    Image.new("L", (30, 30)).save(tmp_path / "cut.tif")
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", fail)
    with pytest.raises(ValueError, match=r"cut\.tif: not a picture .*buffer is not large enough"):
        read(tmp_path / "cut.tif")
    with pytest.raises(ValueError, match=r"absent\.png: not a picture .*No such file"):
        read(tmp_path / "absent.png")


# ---- ink ----

GLYPHS = draw(FONTS[0], 40, seed=3)[0]


def paper(digit, size=(300, 400), at=(60, 90), side=140, ground=230, ink=60, slope=0.0, noise=0.0):
    """A digit drawn on a sheet, lit from the left to the right by 1 - slope to 1 + slope."""
    sheet = np.full(size, float(ground))
    large = Image.fromarray(digit.numpy()).resize((side, side), Image.Resampling.BICUBIC)
    cover = np.asarray(large, dtype=float) / 255
    part = sheet[at[0] : at[0] + side, at[1] : at[1] + side]
    part += cover * (ink - part)
    light = 1 + slope * np.linspace(-1, 1, size[1])
    grain = np.random.default_rng(0).normal(0, noise, size) if noise else 0
    return Image.fromarray((sheet * light + grain).clip(0, 255).round().astype(np.uint8))


def alike(one, other):
    """How far two pictures agree, a pixel's shift aside: the correlation of their pixels."""
    shifts = [one.roll((down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return max(np.corrcoef(shift.numpy().ravel(), other.numpy().ravel())[0, 1] for shift in shifts)


def seen(sheet):
    ink, _ = find_ink(sheet)
    return centred(ink, (28, 28), 20)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("sheet", [
    dict(), dict(ground=20, ink=220), dict(slope=0.25), dict(ground=150, ink=90, slope=-0.2, noise=6),
    dict(at=(2, 255), noise=3), dict(side=60, at=(200, 20)),
], ids=["plain", "chalk", "shaded", "faint", "corner", "small"])  # fmt: skip
def test_ink_is_found_whatever_the_paper(number, sheet):
    digit = GLYPHS[number, 0]
    clean = centred(ImageOps.crop(*cropped(digit)), (28, 28), 20)
    plain = seen(paper(digit))
    assert alike(plain, clean) > 0.8 and alike(seen(paper(digit, **sheet)), plain) > 0.8


def cropped(digit):
    """A digit of the data set without its black rim, as `ImageOps.crop` takes it."""
    image = Image.fromarray(digit.numpy())
    left, top, right, bottom = image.getbbox()
    return image, (left, top, image.width - right, image.height - bottom)


@given(st.integers(0, 39), st.integers(60, 255), st.integers(0, 255))
@few
def test_a_sheet_and_its_negative_show_the_same_ink(number, ground, ink):
    if abs(ground - ink) < 40:
        ground = ink + 60 if ink < 128 else ink - 60
    sheet = paper(GLYPHS[number, 0], ground=ground, ink=ink)
    assert (seen(sheet).int() - seen(ImageOps.invert(sheet)).int()).abs().max() <= 3


@pytest.mark.parametrize("image", [
    Image.new("L", (200, 100), 255), Image.new("L", (200, 100), 0), Image.new("L", (1, 1), 9),
    Image.new("RGB", (2, 50), (9, 99, 199)), paper(GLYPHS[0, 0], ink=230, slope=0.3),
    paper(GLYPHS[0, 0], ink=230, noise=8),
], ids=["white", "black", "pixel", "line", "shading alone", "grain alone"])  # fmt: skip
def test_a_sheet_without_ink_has_none(image):
    assert find_ink(image) is None


def test_specks_are_left_aside():
    sheet = paper(GLYPHS[1, 0])
    clean = seen(sheet)
    sheet.paste(0, (3, 3, 6, 6))
    sheet.paste(0, (390, 290, 393, 293))
    assert alike(seen(sheet), clean) > 0.99


@given(st.integers(0, 39), st.integers(10, 26), st.tuples(st.integers(28, 60), st.integers(28, 60)))
@few
def test_ink_is_centred_by_its_mass_and_as_large_as_asked(number, side, size):
    pixels = centred(ImageOps.crop(*cropped(GLYPHS[number, 0])), size, side)
    assert pixels.shape == (1, *size) and pixels.dtype == torch.uint8
    rows, columns = pixels[0].nonzero().T
    extent = max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) + 1
    assert side - 2 <= extent <= side
    mass = pixels[0].double()
    for axis, whole in enumerate(size):
        middle = (mass.sum(dim=1 - axis) * torch.arange(whole)).sum() / mass.sum()
        assert abs(middle - (whole - 1) / 2) <= 0.51
