"""Chapter 02: the colour of the border, sampling without one, a pull that works off the image."""

import torch
import torch.nn.functional as F

from . import checker, expect_shape, quiz


@checker
def check_border(border):
    """border(mean, std) -> (grey value 0..255 that padding with 0 stands for, its height above a
    background of 0).
    """
    for mean, std in ((0.1307, 0.3081), (0.5, 0.25), (0.0, 0.2)):
        grey, height = map(float, border(mean, std))
        assert abs(height + mean / std) > 1e-6 or mean == 0, (
            "The sign: padding reads 0, the background lies below it."
        )
        assert abs(height - mean / std) < 1e-6, (
            f"For mean {mean}, std {std} the border stands {height:.3f} above the background; "
            f"a background of 0 becomes {-mean / std:.3f}, and padding reads 0."
        )
        assert abs(grey - 255 * mean) < 1e-3, (
            f"For mean {mean} the grey value is {grey:.1f}: undo the normalization of 0."
        )


@checker
def check_sample_background(sample):
    """sample(x, grid, background) -> what grid_sample would read with `background` outside."""
    random = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 5, 5, dtype=torch.float64, generator=random)
    theta = torch.tensor([[[1.6, 0.3, 0.2], [-0.2, 1.4, -0.3]]], dtype=torch.float64).repeat(
        2, 1, 1
    )
    grid = F.affine_grid(theta, [2, 3, 6, 7], align_corners=False)
    got = sample(x, grid, -0.42)
    expect_shape(got, (2, 3, 6, 7), "the sample")
    framed = F.pad(x, (20, 20, 20, 20), value=-0.42)  # a frame so wide that nothing reads beyond it
    wanted = F.grid_sample(framed, grid * 5 / 45, align_corners=False)
    plain = F.grid_sample(x, grid, align_corners=False)
    inside = (grid.abs() < 0.7).all(dim=-1)[:, None].expand_as(got)
    assert torch.allclose(got[inside], wanted[inside]), (
        "Well inside the image nothing should change."
    )
    assert not torch.allclose(got, plain), "Outside it still reads 0."
    assert torch.allclose(got, wanted), (
        "At the border, pixels outside must count as the background, with their share."
    )


@checker
def check_pull(pull):
    """pull(theta) -> the batch's mean of theta's squared distance from the identity, a number."""
    still = torch.eye(2, 3, dtype=torch.float64).repeat(4, 1, 1)
    at_rest = pull(still)
    assert torch.is_tensor(at_rest) and at_rest.ndim == 0, "Return one number, as a tensor."
    assert abs(at_rest.item()) < 1e-12, "At the identity it should be 0."
    lost = still.clone()
    lost[:, :, 2] = 9.0
    lost.requires_grad_()
    cost = pull(lost)
    assert cost.requires_grad, "No gradient reaches theta."
    (gradient,) = torch.autograd.grad(cost, lost)
    assert torch.allclose(pull(lost[:2]), cost), (
        "Take the mean over the batch: two equal thetas cost as much as four."
    )
    assert abs(cost.item() - 162) < 1e-9, (
        f"A window moved by (9, 9) should cost 9² + 9² = 162, not {cost.item():.2f}."
    )
    assert (gradient[:, :, 2] > 0).all(), (
        "The gradient should point away from the identity, so that a step leads back."
    )


answer = quiz({
    "frame": ("b", {
        "a": "A raw background is 0, and so are the zeros outside: there is nothing to see.",
        "b": "The background became -0.42, and the zeros outside stand out from it.",
        "c": "Padding with the background is what takes the frame away.",
        "d": "The padding mode `border` repeats the outermost pixel: no frame.",
    }),
    "cause": ("d", {
        "a": "Then padding with the background would have saved the runs. It did not.",
        "b": "A higher rate does it, too: raw pictures with 3.245 times the rate lose 10 of 20.",
        "c": "That was the same in all rows.",
        "d": "Dividing makes the gradient of theta about 3.25 times as large; undoing it helps.",
    }),
})  # fmt: skip
