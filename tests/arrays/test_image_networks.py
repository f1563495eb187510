"""Image variables: an untrained network is the exact denoiser of independent pixels; roles, parts, nulls, files."""

import math

import numpy as np
import pytest
import torch

from mmg_diffusers import MMG
from mmg_diffusers.arrays.estimate import FittedModel
from mmg_diffusers.arrays.fitting import Fit, held_out_loss, paired
from mmg_diffusers.arrays.image_networks import SUMMARY, ImageNetwork, channel_covariance, in_part
from mmg_diffusers.arrays.image_preprocess import ImagePreprocessing, as_pictures
from mmg_diffusers.arrays.networks import Roles
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, rows_of
from mmg_diffusers.denoisers.check import check_denoiser
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.measure.quadrature import Trapezoid

SMALL = {"widths": (8, 8), "layers": 1}
RHO = 0.8
LAW = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)


def pair(seed=0, count=64, side=6):
    """Pictures whose pixels are independent of each other, with correlation RHO between the two."""
    generator = torch.Generator().manual_seed(seed)
    y, noise = torch.randn(2, count, 1, side, side, generator=generator)
    return RHO * y + math.sqrt(1 - RHO**2) * noise, y


def network(parts=(), **options):
    torch.manual_seed(0)
    return ImageNetwork({"x": (1, 6, 6), "y": (1, 6, 6)}, LAW, parts=parts, **{**SMALL, **options}).eval()


def stir(network, size=0.1):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return network.requires_grad_(False)


def rows(count, side=6):
    return (torch.arange(side) < count).view(1, 1, side, 1).expand(1, 1, side, side)


def test_a_new_network_is_exact_for_independent_pixels():
    x, y = pair()
    view = network().view("x")
    for level in (-6.0, 0.0, 5.0):
        logsnr = torch.full((64,), level, dtype=torch.float64)
        z = add_noise(x, logsnr, torch.randn(x.shape))
        a, s = math.sqrt(1 / (1 + math.exp(-level))), math.sqrt(1 / (1 + math.exp(level)))
        torch.testing.assert_close(view(z, logsnr), s * z, rtol=1e-4, atol=1e-5)
        known = s * (z - a * RHO * y) / (a**2 * (1 - RHO**2) + s**2)
        torch.testing.assert_close(view(z, logsnr, {"y": y}), known, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seen", [0, 2, 6])
def test_information_of_a_part(seen):
    x, y = pair(count=300)
    denoiser = network(parts=["y"], logsnr_range=(-10.0, 12.0)).view("x")
    found = MMG("gap", Trapezoid(48))(denoiser, x, {"y": in_part(y, rows(seen))}).mean()
    truth = -seen * 6 / 2 * math.log(1 - RHO**2)
    assert abs(found.value - truth) <= 4 * found.stderr + 0.002 * truth
    if not seen:
        assert found.value == 0


def test_pixels_that_others_determine_are_known():
    x, _ = pair()
    torch.manual_seed(0)
    three = ImageNetwork({name: (1, 6, 6) for name in "abc"}, torch.ones(3, 3), parts=("b", "c"), **SMALL)
    logsnr = torch.full((64,), 7.9, dtype=torch.float64)
    eps = torch.randn(x.shape)
    z = add_noise(x, logsnr, eps)
    view = stir(three).view("a")
    for cond in ({"b": in_part(x, rows(4))}, {"b": in_part(x, rows(4)), "c": in_part(x, rows(2))}):
        with torch.autocast("cpu", torch.bfloat16):
            wrong = (view(z, logsnr, cond) - eps).abs()
        assert float(wrong[:, :, :4].max()) < 1e-3
        assert float(wrong[:, :, 4:].mean()) > 0.1


def test_absent_is_not_zero_and_unseen_is_absent():
    _, y = pair(count=8)
    stirred = stir(network(parts=["y"]))
    view = stirred.view("x")
    z, logsnr = torch.randn(8, 1, 6, 6), torch.zeros(8, dtype=torch.float64)
    alone = view(z, logsnr)
    torch.testing.assert_close(view(z, logsnr, {"y": in_part(y, rows(0))}), alone)
    assert float((view(z, logsnr, {"y": in_part(0 * y, rows(6))}) - alone).abs().max()) > 1e-3
    # What hides behind the mask is not looked at, and the learned null is.
    half = in_part(y, rows(3))
    noisy_behind = torch.cat([torch.where(rows(3), y, 9.0), half[:, 1:]], 1)
    torch.testing.assert_close(view(z, logsnr, {"y": noisy_behind}), view(z, logsnr, {"y": half}))
    stirred.null.add_(1.0)
    assert float((view(z, logsnr) - alone).abs().max()) > 1e-3


def test_a_network_is_told_where_a_pixel_lies():
    """Without it, the mean over a picture could hardly say on which side something is."""
    stirred = stir(network())
    down, across = stirred.place[0]
    ends = torch.tensor([-1.0, 1.0])
    assert torch.equal(down[[0, -1], 2], ends)
    assert torch.equal(across[2, [0, -1]], ends)
    z, logsnr = torch.randn(8, 1, 6, 6), torch.zeros(8, dtype=torch.float64)
    told = stirred.view("x")(z, logsnr)
    stirred.place.zero_()
    assert float((stirred.view("x")(z, logsnr) - told).abs().max()) > 1e-3


def test_a_variable_of_one_pixel_beside_a_picture():
    torch.manual_seed(0)
    both = stir(ImageNetwork({"label": (3, 1, 1), "x": (2, 5, 7)}, **SMALL))  # sides that the levels do not divide
    logsnr = torch.zeros(4, dtype=torch.float64)
    label, x = torch.randn(4, 3, 1, 1), torch.randn(4, 2, 5, 7)
    assert both.view("label")(label, logsnr, {"x": x}).shape == label.shape
    assert both.view("x")(x, logsnr, {"label": label}).shape == x.shape
    joint = both({"label": label, "x": x}, logsnr, {})
    assert {name: eps.shape for name, eps in joint.items()} == {"label": label.shape, "x": x.shape}


def test_a_wide_picture_is_summed_up_in_cells_as_small_as_a_square_one():
    for width in (8, 16):
        net = stir(ImageNetwork({"label": (2, 1, 1), "x": (1, 8, width)}, **SMALL))
        # What the picture shows is its own feature, so that the cells alone decide what is told apart.
        net.encoder.forward = lambda planes: planes[:, :1].expand(-1, SMALL["widths"][-1], -1, -1)
        first, beside, next_cell = (torch.zeros(1, 1, 8, width) for _ in range(3))
        first[..., 0, 0] = beside[..., 0, 1] = next_cell[..., 0, 2] = 1.0
        told = [net.read({"x": x})[SUMMARY] for x in (first, beside, next_cell)]
        torch.testing.assert_close(told[0], told[1])
        assert float((told[1] - told[2]).abs().max()) > 0.01


def test_pictures_are_read_once_for_all_levels():
    torch.manual_seed(0)
    net = stir(ImageNetwork({"label": (2, 1, 1), "x": (1, 5, 7), "y": (1, 5, 7)}, parts=("y",), **SMALL))
    logsnr = torch.linspace(-6.0, 6.0, 12, dtype=torch.float64)
    label, x, y = (
        torch.randn(12, 2, 1, 1),
        torch.randn(3, 1, 5, 7),
        in_part(torch.randn(3, 1, 5, 7), rows(3, 7)[:, :, :5]),
    )
    passes = []
    net.encoder.register_forward_hook(lambda *args: passes.append(len(args[1][0])))
    for given in ({}, {"x": x}, {"x": x, "y": y}):
        whole = {name: v.repeat(4, 1, 1, 1) for name, v in given.items()}
        expected = net({"label": label}, logsnr, whole)["label"]
        passes.clear()
        read = {name: v.repeat(12 // len(v), *[1] * (v.ndim - 1)) for name, v in net.read(given).items()}
        torch.testing.assert_close(net({"label": label}, logsnr, read)["label"], expected)
        assert passes == [3 if given else 1]
    # Where a picture is noisy, what was read before the noise is not used.
    read = net.read({"y": y[:1]})
    noisy = {"label": label, "x": x.repeat(4, 1, 1, 1)}
    given = {name: v.repeat(12, *[1] * (v.ndim - 1)) for name, v in read.items()}
    found = net(noisy, logsnr, given)["label"]
    torch.testing.assert_close(found, net(noisy, logsnr, {"y": given["y"]})["label"])
    assert float((found - net({"label": label}, logsnr, given)["label"]).abs().max()) > 1e-3
    assert network().read({"y": y[:, :1]}).keys() == {"y"}  # nothing to sum up where no variable has one pixel


def test_every_parameter_has_a_gradient_whatever_is_diffused():
    """Processes that share gradients wait for each of them."""
    net = ImageNetwork({"label": (2, 1, 1), "x": (1, 4, 4)}, **SMALL).train()
    for noisy in ({"label": torch.randn(2, 2, 1, 1)}, {"x": torch.randn(2, 1, 4, 4)}):
        net.zero_grad()
        (eps,) = net(noisy, torch.zeros(2, dtype=torch.float64), {}).values()
        eps.sum().backward()
        assert all(parameter.grad is not None for parameter in net.parameters())


def test_training_finds_what_a_picture_says_of_a_label():
    """A dot somewhere, bright or dark: the label is known from the picture, so the information is ln 2."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(2, (3000, 1, 1, 1), generator=generator) * 2.0 - 1
    picture = 0.3 * torch.randn(3000, 1, 36, generator=generator)
    picture.scatter_(2, torch.randint(36, (3000, 1, 1), generator=generator), 3 * label.view(3000, 1, 1))
    data = {"label": label, "x": picture.view(3000, 1, 6, 6)}
    train, held, test = ({name: v[a:b] for name, v in data.items()} for a, b in ((0, 2500), (2500, 2700), (2700, 3000)))
    torch.manual_seed(0)
    net = ImageNetwork({"label": (1, 1, 1), "x": (1, 6, 6)}, logsnr_range=(-8.0, 6.0), widths=(16, 16))
    settings = TrainSettings(steps=200, batch=32, draws=4, warmup=10, check_every=100, average=0.98, weighting="v")
    Trainer(net, rows_of(train), held, paired("label", ["x"]), settings).run(progress=False)
    found = MMG("balanced", Trapezoid(24))(net.view("label"), test["label"], {"x": test["x"]}).mean()
    assert abs(found.value - math.log(2)) < 4 * found.stderr + 0.03
    assert found.stderr < 0.04


def test_check_denoiser_passes_on_a_view():
    x, y = pair()
    found = check_denoiser(stir(network(), 0.03).view("x"), x, {"y": y})
    assert float(found.error[0]) < 0.1


def test_what_is_learnt_counts_as_much_as_the_linear_prediction_leaves():
    net = network()
    x, y = pair(count=5)
    logsnr = torch.linspace(-6, 7, 5, dtype=torch.float64)
    before = [net.view("x")(x, logsnr, cond) for cond in (None, {"y": y})]
    with torch.no_grad():
        net.unet.conv_out.bias.fill_(1.0)
    a2, s2 = torch.sigmoid(logsnr), torch.sigmoid(-logsnr)
    for cond, v, old in ((None, 1.0, before[0]), ({"y": y}, 1 - RHO**2, before[1])):
        left = (a2 * v / (a2 * v + s2)).sqrt().float().view(-1, 1, 1, 1).expand_as(x)
        torch.testing.assert_close(net.view("x")(x, logsnr, cond) - old, left, rtol=1e-4, atol=1e-5)


def test_the_network_is_told_the_level():
    net, times = network(logsnr_range=(-6.0, 4.0)), []
    net.unet.register_forward_pre_hook(lambda module, args: times.append(args[1]))
    logsnr = torch.linspace(-6, 4, 5, dtype=torch.float64)
    net.view("x")(torch.randn(5, 1, 6, 6), logsnr)
    torch.testing.assert_close(times[0], torch.linspace(0, 80, 5))


def test_training_finds_what_pixels_share():
    """All pixels of a picture are equal: the linear start sees one at a time, the network all."""
    generator = torch.Generator().manual_seed(0)
    shade = torch.randn(460, 1, 1, 1, generator=generator)
    y = (shade + 0.3 * torch.randn(shade.shape, generator=generator)) / math.sqrt(1.09)
    data = {name: v.expand(-1, 1, 4, 4) + 0.0 for name, v in (("x", shade), ("y", y))}
    torch.manual_seed(0)
    net = ImageNetwork({"x": (1, 4, 4), "y": (1, 4, 4)}, channel_covariance(data), logsnr_range=(-6.0, 4.0), **SMALL)
    held = {name: v[400:] for name, v in data.items()}
    before = held_out_loss(net, held, paired("x", ["y"]), levels=2)
    settings = TrainSettings(steps=40, batch=16, lr=5e-3, warmup=5, check_every=40)
    fitted = Trainer(net, rows_of({name: v[:400] for name, v in data.items()}), held, paired("x", ["y"]), settings).run(
        progress=False
    )
    after = held_out_loss(net, held, paired("x", ["y"]), levels=2)
    assert after < 0.7 * before
    assert fitted.gained > 0.2 * before


def test_channel_covariance_counts_what_is_seen():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 2, 3, 3, generator=generator)
    law = channel_covariance({"x": x, "y": in_part(x[:, :1], rows(1, 3)), "v": torch.randn(4000, 1, 1, 1)}, ["y"])
    torch.testing.assert_close(law[:2, :2], torch.eye(2, dtype=torch.float64), atol=0.03, rtol=0)
    assert float(law[0, 2]) == pytest.approx(1.0, abs=0.03)
    assert law[3, :3].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="never seen at the same pixel"):
        channel_covariance(
            {"x": in_part(x[:, :1], rows(1, 3)), "y": in_part(x[:, :1], 1 - rows(1, 3).int())}, ["x", "y"]
        )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: network(parts=["w"]), "no variable 'w'"),
        (lambda: ImageNetwork({"v": (1, 1, 1), "x": (1, 4, 4)}, parts=["v"], **SMALL), "none of one pixel"),
        (lambda: ImageNetwork({"x": (1, 4, 4), "y": (1, 8, 8)}), "one size"),
        (lambda: ImageNetwork({"x": (3, 1, 1)}), "VectorNetwork"),
        (lambda: ImageNetwork({"x": (1, 4, 4)}, torch.eye(2), **SMALL), "covariance of 1 channels"),
        (lambda: ImageNetwork({"x": (2, 4, 4)}, torch.tensor([[1.0, 2.0], [2.0, 1.0]]), **SMALL), "negative variance"),
        (lambda: network()({}, torch.zeros(1), {}), "nothing is diffused"),
        (lambda: network(parts=["y"]).view("y")(torch.zeros(1, 2, 6, 6), torch.zeros(1)), "'y' cannot be diffused"),
        (
            lambda: network(parts=["y"]).view("x")(
                torch.zeros(1, 1, 6, 6), torch.zeros(1), {"y": torch.zeros(1, 1, 6, 6)}
            ),
            "last channel a mask",
        ),
    ],
)
def test_bad_use_is_said(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# ---- preparation and files ----


def test_pictures_and_labels_are_made_ready():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 5, 4, 3)).astype(np.uint8), rng.integers(0, 3, 300)
    found = ImagePreprocessing.fit({"x": images, "y": labels})
    ready = found({"x": images, "y": labels})
    assert found.shapes == {"x": (3, 5, 4), "y": (2, 1, 1)}
    assert {name: tuple(v.shape[1:]) for name, v in ready.items()} == found.shapes
    torch.testing.assert_close(ready["x"].std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    flat = ready["y"].flatten(1).T
    torch.testing.assert_close(flat @ flat.T / 300, torch.eye(2), atol=0.02, rtol=0)
    torch.testing.assert_close(as_pictures(images, "x"), torch.from_numpy(images / 255).permute(0, 3, 1, 2).float())
    dim = (images // 3).astype(np.uint8)
    torch.testing.assert_close(
        ImagePreprocessing.fit({"x": dim})({"x": dim})["x"].std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0
    )
    # A tensor has its channels first.
    same = found({"x": torch.from_numpy(images).permute(0, 3, 1, 2)})["x"]
    torch.testing.assert_close(same, ready["x"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full((300, 4, 4), 7, dtype=np.uint8), r"constant channels \[0\]"),
        (
            np.where(np.arange(300)[:, None, None] == 7, np.nan, np.random.default_rng(0).random((300, 4, 4))),
            r"rows \[7\]",
        ),
        (np.zeros((3, 4, 4, 1, 1)), "expected .N, H, W. or .N, H, W, C."),
        (np.zeros((3, 4, 4), dtype=complex), "complex"),
    ],
)
def test_bad_pictures_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        ImagePreprocessing.fit({"x": values})
    with pytest.raises(ValueError, match="tensor of shape"):
        as_pictures(torch.zeros(3, 4, 4), "x")


def model():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    images = (rng.integers(0, 50, (300, 6, 6)) + 60 * labels[:, None, None]).astype(np.uint8)
    prepared = ImagePreprocessing.fit({"x": images, "y": labels})
    torch.manual_seed(0)
    net = stir(ImageNetwork(prepared.shapes, prepared.covariance, **SMALL)).eval()
    fitted = Fit(net, 3, 1.0, 0.5, True, (0.5,))
    return FittedModel(prepared, net, "x", ("y",), (), fitted, {"fit_seed": 0}), {"x": images[:8], "y": labels[:8]}


def test_a_saved_model_measures_the_same(tmp_path):
    one, data = model()
    other = FittedModel.load(one.save(tmp_path / "model.safetensors"))
    estimator = MMG("auto", Trapezoid(5))
    found = [each.estimate(data, estimator=estimator) for each in (one, other)]
    assert torch.equal(found[0].nats, found[1].nats)
    assert found[0].settings == found[1].settings
    assert float(found[0].nats.abs().max()) > 0
    with pytest.raises(ValueError, match="got the variables x; expected those of the fit, x, y"):
        one.estimate({"x": data["x"]})


def test_three_variables_of_a_picture_are_trained_together():
    x, y = pair(count=8)
    data = {"a": x, "b": in_part(y, rows(3)), "c": in_part(y, rows(1))}
    torch.manual_seed(0)
    net = ImageNetwork({name: (1, 6, 6) for name in "abc"}, parts=("b", "c"), **SMALL)
    roles = tuple(Roles(("a",), given) for given in ((), ("b",), ("b", "c")))
    trainer = Trainer(net, rows_of(data), data, roles, TrainSettings(steps=2, batch=4, check_every=2))
    assert trainer.run(progress=False).steps == 2
    assert [look["step"] for look in trainer.history] == [0, 2]
