"""Picture files of many kinds as uint8 tensors; too large ones are refused before decoding."""

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor

from ..spec import Folder, Size

# None is a program, as PostScript is.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
FAINTEST = 16  # grey levels by which ink stands out at least
LARGEST, LONGEST = 64_000_000, 32_000  # pixels of a picture, and of its longer side


def read(path: Folder) -> Image.Image:
    """The picture in a file, upright, 8 bits a channel: PIL's mode L or RGB.

    What shines through a transparent picture becomes white, or black where what is drawn is light.
    Raises ValueError, naming the file, for what is no picture, or too large a one.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST or max(image.size) > LONGEST:
                most = f"at most {LARGEST:,} pixels, {LONGEST:,} a side"
                raise ValueError(f"{width:,}x{height:,} pixels; {most}")
            image.load()
            return _eight_bits(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: not a picture that can be read here ({why}).") from None


def _eight_bits(image):
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        deep = image.mode.startswith("I;16")
        low, high = (0, 65535) if deep else (values.min(), values.max())
        if not np.isfinite(values).all():
            raise ValueError("it holds nan or infinity")
        grey = (values - low) / max(high - low, 1e-9)
        return Image.fromarray((255 * grey).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        grey, cover = (np.asarray(image.convert(mode), dtype=float) for mode in ("L", "RGBA"))
        drawn = cover[..., 3]
        light = (grey * drawn).sum() > 127 * drawn.sum()
        ground = Image.new("RGBA", image.size, "black" if light else "white")
        return _eight_bits(Image.alpha_composite(ground, image).convert("RGB"))
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    colour = image.convert("RGB")
    channels = np.asarray(colour)
    return colour if (channels != channels[..., :1]).any() else colour.convert("L")


def on_canvas(image: Image.Image, size: Size, channels: int) -> Tensor:
    """A picture as uint8 (channels, H, W), scaled to fit into size (H, W), its shape kept.

    Beside it stands the colour of its own rim, the median.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    rim = np.concatenate([*pixels[[0, -1]], *pixels[:, [0, -1]].swapaxes(0, 1)])
    fill = tuple(np.median(rim, axis=0).astype(int).tolist())
    color, kind = fill if channels > 1 else fill[0], Image.Resampling.LANCZOS
    return as_tensor(ImageOps.pad(image, size[::-1], kind, color=color))


def as_tensor(image: Image.Image) -> Tensor:
    """A picture of mode L or RGB as uint8 (1 or 3, H, W)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def find_ink(image: Image.Image) -> tuple[Image.Image, str] | None:
    """What is written or drawn on a picture, bright on black and cut out, and how it was found.

    The ground is a smooth surface, fitted to the picture without what stands out from it. None
    where nothing stands out.
    """
    image = image.convert("L")
    image.thumbnail((512, 512), Image.Resampling.BOX)
    grey = np.asarray(image, dtype=float)
    if min(grey.shape) < 3 or np.ptp(grey) < FAINTEST:
        return None
    ground = _ground(grey)
    rest = grey - ground
    dark = abs(rest[rest < 0]).sum() > rest[rest > 0].sum()
    strength = ndimage.gaussian_filter(-rest if dark else rest, 0.5)
    noise = 1.5 * np.median(abs(rest))
    peak = np.quantile(strength, 0.999)
    threshold = max(5 * noise, 0.3 * peak)
    parts, count = ndimage.label(strength > threshold, np.ones((3, 3)))
    if peak < max(FAINTEST, 6 * noise) or not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.05 * sizes.max()))
    rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
    box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    near = ndimage.binary_dilation(kept, iterations=2)
    least = threshold / 2
    ink = near * ((strength - least) / (peak - least)).clip(0, 1)
    note = f"{'dark' if dark else 'light'} ink, {box[2] - box[0]}x{box[3] - box[1]} pixels"
    return Image.fromarray((255 * ink).round().astype(np.uint8)).crop(box), note


def _ground(grey):
    """A surface of second degree through the picture, (H, W); what stands out is left aside."""
    y, x = (np.linspace(-1, 1, side) for side in grey.shape)
    y, x = np.meshgrid(y, x, indexing="ij")
    terms = np.stack([x**i * y**j for i in range(3) for j in range(3 - i)], axis=-1).reshape(-1, 6)
    values = grey.ravel()
    off = abs(values - np.median(values))
    for _ in range(8):
        near = off <= max(2.5 * 1.5 * np.median(off), 2)
        numbers, *_ = np.linalg.lstsq(terms[near], values[near], rcond=None)
        off = abs(values - terms @ numbers)
    return (terms @ numbers).reshape(grey.shape)


def centred(ink: Image.Image, size: Size, side: int) -> Tensor:
    """Ink as MNIST has it: uint8 (1, H, W), its longer side `side` pixels, its mass in the middle.

    Source: LeCun et al. 1998: a box of 20x20, centred by mass on 28x28.
    """
    scale = side / max(ink.size)
    small = [max(1, round(length * scale)) for length in ink.size]
    ink = ink.resize(small, Image.Resampling.BOX)
    pixels = np.asarray(ink)
    middle = ndimage.center_of_mass(pixels)
    top, left = (round((whole - 1) / 2 - at) for whole, at in zip(size, middle))
    canvas = Image.new("L", size[::-1])
    canvas.paste(ink, (left, top))
    return as_tensor(canvas)
