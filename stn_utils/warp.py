"""Geometry: parameters -> matrix -> grid -> sample.

One convention everywhere. `theta` (B, 2, 3) maps OUTPUT coordinates to INPUT coordinates: it says
where to look, not where to move. Coordinates are (x, y), x to the right, y down, normalized so that
[-1, 1] spans the image from outer edge to outer edge (pixel-area convention, torch's
align_corners=False). No function here takes align_corners.

A LOOK says where a whole batch is read. It is theta, or, for warps that no matrix can describe, the
grid (B, h, w, 2) itself. `grid_of`, `outline`, `area`, `centre` and `outside` take either.
"""

import contextlib
import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .names import one_of
from .spec import Device, Size

Number = float | Tensor
PADDINGS = ("zeros", "border", "reflection", "background")


def identity(batch: int = 1, device: Device = None, dtype: torch.dtype | None = None) -> Tensor:
    """Return theta (batch, 2, 3) that looks at the whole image as it is.

    Convention: theta maps output to input coordinates, pixel-area.
    """
    return torch.eye(2, 3, device=device, dtype=dtype).repeat(batch, 1, 1)


def affine(
    angle: Number = 0.0,
    scale: Number = 1.0,
    shift_x: Number = 0.0,
    shift_y: Number = 0.0,
    shear: Number = 0.0,
    size: Size = (1, 1),
) -> Tensor:
    """Build theta (B, 2, 3) from five readable numbers, each a float or a tensor (B,).

    The sampling window is sheared by x += shear * y, scaled, turned by `angle` DEGREES clockwise on
    the screen, then moved by (shift_x, shift_y), half image widths and heights. What the window
    shows turns the other way: a window turned clockwise shows the picture turned counter-clockwise.
    scale < 1 zooms in. size: (H, W) of the image, or of its shape; default a square. With it a turn
    is a turn on every shape, see `on_shape`. The type is the widest among the floating tensors, the
    device that of the tensors. Convention: theta maps output to input coordinates, pixel-area.
    """
    numbers = (angle, scale, shift_x, shift_y, shear)
    tensors = [n for n in numbers if torch.is_tensor(n)]
    kinds = [n.dtype for n in tensors if n.is_floating_point()] or [torch.get_default_dtype()]
    dtype = functools.reduce(torch.promote_types, kinds)
    lists = [n for n in tensors if n.dim()] or tensors  # a single number may lie on the CPU
    device = lists[0].device if lists else None
    like = torch.empty(1, dtype=dtype, device=device)  # a float is filled in there, never copied
    columns = [n.to(like) if torch.is_tensor(n) else torch.full_like(like, n) for n in numbers]
    a, s, x, y, k = torch.broadcast_tensors(*(column.reshape(-1) for column in columns))
    cos, sin = torch.cos(a * math.pi / 180), torch.sin(a * math.pi / 180)
    top = torch.stack([s * cos, s * (k * cos - sin), x], dim=1)
    bottom = torch.stack([s * sin, s * (k * sin + cos), y], dim=1)
    return on_shape(torch.stack([top, bottom], dim=1), size)


def on_shape(theta: Tensor, size: Size) -> Tensor:
    """Return the theta (B, 2, 3) that does on an image (H, W) what `theta` does on a square one.

    Normalized x and y are each in units of their own side, so the matrix that turns a square would
    bend a long image. Convention: theta maps output to input coordinates, pixel-area.
    """
    height, width = size
    if height == width:
        return theta
    bend = torch.ones_like(theta)
    bend[:, 0, 1], bend[:, 1, 0] = height / width, width / height
    return theta * bend


def at_least_single(numbers: Tensor) -> Tensor:
    """The same numbers in float32 if they came in half precision.

    In bfloat16 a place on a picture of 60 pixels is off by up to a fifth of a pixel.
    """
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def no_autocast(like: Tensor) -> contextlib.AbstractContextManager[None]:
    """Matrix products of geometry keep their precision where autocast would halve it."""
    kind = like.device.type
    active = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if active else contextlib.nullcontext()


def pixel_centres(size: Size, like: Tensor) -> Tensor:
    """The centres (h * w, 2) of an image's pixels as (x, y), row by row, in the type of `like`.

    Convention: normalized coordinates, pixel-area: the first centre of n is at 1 / n - 1.
    """

    def line(count):
        ends = torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device)
        return ends * (count - 1) / count

    return torch.cartesian_prod(line(size[0]), line(size[1])).flip(1)


def make_grid(theta: Tensor, size: Size) -> Tensor:
    """The grid (B, H, W, 2) of theta (B, 2, 3): where each output pixel reads the input, as (x, y).

    size: (H, W) of the output. Convention: theta maps output to input coordinates, pixel-area.
    Source: Jaderberg et al. 2015, section 3.2.
    """
    with no_autocast(theta):
        places = F.pad(pixel_centres(size, theta), (0, 1), value=1.0)  # x, y, 1
        return (places @ theta.transpose(1, 2)).unflatten(1, size)


def sample(x: Tensor, grid: Tensor, padding: str = "zeros", background: Number = 0.0) -> Tensor:
    """Read x (B, C, H, W) at grid (B, h, w, 2), bilinearly; returns (B, C, h, w).

    padding says what lies outside the image: `zeros`, the nearest `border` pixel, its `reflection`,
    or the value `background` (a float, or a tensor (C, 1, 1)). Where x and grid differ in
    precision, the finer one is used in between. Convention: the grid is in input coordinates
    (x, y), pixel-area. Source: Jaderberg et al. 2015, section 3.3.
    """
    kind = torch.promote_types(x.dtype, grid.dtype)
    if padding == "background":  # what is outside has none of what stands out from the background
        return sample(x - background, grid) + background
    read = F.grid_sample(x.to(kind), grid.to(kind), padding_mode=padding, align_corners=False)
    return read.to(x.dtype)


def expect_images(x: Tensor) -> None:
    """Raise a ValueError, saying what came, unless x is a batch of images (B, C, H, W), floats."""
    if not torch.is_tensor(x) or x.ndim != 4 or 0 in x.shape[1:]:
        got = f"shape {tuple(x.shape)}" if torch.is_tensor(x) else f"a {type(x).__name__}"
        raise ValueError(f"x: expected images (B, C, H, W), got {got}.")
    if not x.is_floating_point():
        cure = "Divide uint8 images by 255 first."
        raise ValueError(f"x: expected a floating type, got {x.dtype}. {cure}")


def warp(
    x: Tensor,
    theta: Tensor,
    size: Size | None = None,
    padding: str = "zeros",
    background: Number = 0.0,
) -> Tensor:
    """Look at x (B, C, H, W) through theta (B, 2, 3); returns (B, C, h, w).

    (h, w) is `size`, by default (H, W).

    A single theta (1, 2, 3) serves the whole batch. Padding as in this module's `sample`.
    Convention: theta maps output to input coordinates, pixel-area.
    Raises ValueError for wrong shapes, non-finite theta, mixed devices or types, unknown padding.
    """
    one_of("padding", padding, PADDINGS)
    expect_images(x)
    if not torch.is_tensor(theta):
        raise ValueError(f"theta: expected a tensor, got a {type(theta).__name__}.")
    if size and min(size) < 1:
        raise ValueError(f"size: expected a height and a width of at least 1, got {size}.")
    batch = x.shape[0]
    if theta.shape[1:] != (2, 3) or theta.shape[0] not in (1, batch):
        shape = tuple(theta.shape)
        raise ValueError(f"theta: expected shape ({batch}, 2, 3) or (1, 2, 3), got {shape}.")
    if theta.device != x.device or theta.dtype != x.dtype:
        ours, theirs = f"{theta.dtype} on {theta.device}", f"{x.dtype} on {x.device}"
        raise ValueError(f"theta is {ours}, x is {theirs}: bring them together.")
    if not torch.isfinite(theta).all():
        why = "the localization net has diverged, or the input held them already"
        raise ValueError(f"theta: holds nan or inf; {why}.")
    grid = make_grid(theta.expand(batch, 2, 3), size or (x.shape[2], x.shape[3]))
    return sample(x, grid, padding, background)


def _square(theta):
    """(B, 2, 3) -> (B, 3, 3), with the row 0 0 1 below."""
    row = torch.eye(3, dtype=theta.dtype, device=theta.device)[2:]
    return torch.cat([theta, row.expand(theta.shape[0], 1, 3)], dim=1)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Return the theta of looking through `first`, then at that through `then`; all (B, 2, 3).

    warp(warp(x, first), then) and warp(x, compose(first, then)) agree but for blur and cut-off
    borders. Convention: theta maps output to input coordinates, pixel-area.
    """
    with no_autocast(first):
        return first @ _square(then)


def invert(theta: Tensor) -> Tensor:
    """Return theta (B, 2, 3) that undoes `theta`: it maps input to output coordinates, pixel-area.

    Raises RuntimeError if the determinant is zero.
    """
    return torch.linalg.inv(at_least_single(_square(theta)))[:, :2].to(theta)


def determinant(theta: Tensor) -> Tensor:
    """Return det A (B,), A the left 2x2 of theta (B, 2, 3); it is negative for a mirror image."""
    return theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]


def to_pixels(theta: Tensor, size_in: Size, size_out: Size, align_corners: bool = False) -> Tensor:
    """Return theta (B, 2, 3) as the matrices (B, 2, 3) that OpenCV and scipy take.

    Each maps a pixel (x, y) of the output, size_out (H, W), to the place in the input, size_in,
    that is read there; pixels are counted from 0 in their centres. For `cv2.warpAffine` it is the
    matrix, with flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR; `scipy.ndimage.affine_transform`
    wants rows before columns: matrix[::-1, 1::-1], with offset matrix[::-1, 2]. align_corners: the
    rule that theta was made for; this course's is False, the pixel-area convention. Raises
    ValueError for a side below 1 pixel, or below 2 with align_corners.
    """
    into, out = _pixels(theta, size_in, align_corners), _pixels(theta, size_out, align_corners)
    return compose(compose(into, theta), invert(out))


def from_pixels(
    matrix: Tensor, size_in: Size, size_out: Size, align_corners: bool = False
) -> Tensor:
    """Return the theta (B, 2, 3) of pixel matrices (B, 2, 3): the inverse of `to_pixels`.

    A theta that was trained with align_corners=True becomes one for this course by
    from_pixels(to_pixels(theta, size_in, size_out, align_corners=True), size_in, size_out).
    """
    into, out = _pixels(matrix, size_in, align_corners), _pixels(matrix, size_out, align_corners)
    return compose(compose(invert(into), matrix), out)


def _pixels(like, size, align_corners):
    """The theta (1, 2, 3) from places to pixels, both (x, y): half a picture, and its middle."""
    if min(size) < 1 + align_corners:
        rule = " with align_corners" * align_corners
        raise ValueError(f"size: expected at least {1 + align_corners} pixels{rule}, got {size}.")
    sides = torch.tensor(size[::-1]).to(like)
    half, middle = torch.diag(sides - int(align_corners)) / 2, (sides[:, None] - 1) / 2
    return torch.cat([half, middle], dim=1)[None]


def windows_of(look: Tensor) -> list[Tensor]:
    """The windows of a look, thetas (B, 2, 3) or grids (B, h, w, 2): one, or several side by side.

    A look of K windows is theirs, stacked: (B, K, 2, 3) or (B, K, h, w, 2).
    """
    several = look.ndim == 5 or look.ndim == 4 and look.shape[3] == 3
    return list(look.unbind(1)) if several else [look]


def grid_of(look: Tensor, size: Size) -> Tensor:
    """Return the grid (B, h, w, 2) of a look: theta's at `size`, or the look itself.

    Of K windows the grids stand side by side, (B, h, K w, 2). Convention: input coordinates (x, y),
    pixel-area. Raises ValueError for a grid of another size.
    """
    windows = windows_of(look)
    if len(windows) > 1:
        return torch.cat([grid_of(window, size) for window in windows], dim=2)
    if look.ndim == 3:
        return make_grid(look, size)
    if look.shape[1:3] != tuple(size):
        raise ValueError(
            f"look: its grid has size {tuple(look.shape[1:3])}, asked for is {tuple(size)}."
        )
    return look


def outside(look: Tensor, size: Size = (28, 28)) -> Tensor:
    """Return the share (B,) of the sampling grid, taken at `size`, that lies outside the image.

    Convention: outside is beyond [-1, 1], pixel-area; nan is outside.
    """
    inside = (grid_of(look, size).abs() <= 1).all(dim=-1)
    return 1 - inside.float().mean(dim=(1, 2))


def corners(theta: Tensor) -> Tensor:
    """Return the window's corners (B, 4, 2) in input coordinates, clockwise from the top left.

    Convention: theta maps output to input coordinates, pixel-area.
    """
    places = (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)
    return theta.new_tensor(places) @ theta.transpose(1, 2)


def outline(look: Tensor) -> Tensor:
    """Return the window's rim (B, P, 2) in input coordinates, clockwise from the top left.

    theta has P = 4 corners. A grid (B, h, w, 2) gives what lies half a step beyond its outermost
    points, where the edges of its pixels are. Convention: input coordinates (x, y), pixel-area.
    """
    if look.ndim == 3:
        return corners(look)
    grid = _up_to_the_edge(_up_to_the_edge(look, 1), 2)
    rows, columns = grid, grid.transpose(1, 2)
    top, bottom, left, right = rows[:, 0], rows[:, -1], columns[:, 0], columns[:, -1]
    sides = top, right, bottom.flip(1), left.flip(1)
    return torch.cat([side[:, :-1] for side in sides], dim=1)


def _up_to_the_edge(grid, dim):
    """The grid with a line more at both ends of `dim`, half a step beyond the last ones."""
    lines = grid.split(1, dim)
    first, last = (1.5 * end - 0.5 * inner for end, inner in (lines[:2], lines[:-3:-1]))
    return torch.cat([first, grid, last], dim)


def area(look: Tensor) -> Tensor:
    """Return the window's area (B,), 1 for the whole image, below 1 where it zooms in.

    Of theta it is |det A|; of a grid that of its outline, by the shoelace formula.
    """
    if look.ndim == 3:
        return determinant(look).abs()
    x, y = outline(look).unbind(-1)
    x_next, y_next = x.roll(-1, 1), y.roll(-1, 1)
    twice = (x * y_next - x_next * y).sum(dim=1)
    return twice.abs() / 8  # the image's own is 4, twice over


def centre(look: Tensor) -> Tensor:
    """Return the window's middle (B, 2) in input coordinates (x, y); (0, 0) is the image's."""
    return look[:, :, 2] if look.ndim == 3 else look.mean(dim=(1, 2))


def overlap(look: Tensor, pose: Tensor, size: Size = (32, 32)) -> Tensor:
    """Return how much of two windows is common to both, (B,): intersection over union.

    look: theta, counted on a grid of that size, or a grid; pose: the theta (B, 2, 3) of the other
    one. 1: the same window; 0: apart. Both may reach beyond the image.
    """
    back, ours = invert(pose), area(look)
    grid = make_grid(look, size) if look.ndim == 3 else look
    places = grid.flatten(1, 2)
    there = places @ back[:, :, :2].mT + back[:, None, :, 2]
    common = ours * (there.abs() <= 1).all(dim=2).float().mean(dim=1)
    return common / (ours + area(pose) - common)
