"""Roles, views and stacks: an untrained network is the exact denoiser of its Gaussian law."""

import math

import pytest
import torch

from mmg_diffusers import MMG
from mmg_diffusers.arrays import networks
from mmg_diffusers.arrays.networks import Roles, VectorNetwork
from mmg_diffusers.denoisers.check import check_denoiser
from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.measure.quadrature import Trapezoid
from tests.conftest import joint


def mixed(seed=0, size=4):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size + 2, generator=generator, dtype=torch.float64)
    return root @ root.T / size


def stir(network, seed=1):
    """Weights as if trained: nothing is zero any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("cov", [joint(0.9, 0.2), mixed()], ids=["canonical", "any"])
def test_a_new_network_is_the_exact_gaussian_denoiser(cov):
    network = VectorNetwork({"x": 2, "y": 2}, cov)
    oracle = GaussianDenoiser(cov, 2)
    generator = torch.Generator().manual_seed(3)
    z, y = torch.randn(2, 50, 2, generator=generator)
    for level in (-7.0, -1.0, 0.0, 2.0, 11.0):
        logsnr = torch.full((50,), level, dtype=torch.float64)
        for cond in (None, {"y": y}):
            torch.testing.assert_close(
                network.view("x")(z, logsnr, cond), oracle(z, logsnr, cond), rtol=1e-4, atol=1e-5
            )
        both = GaussianDenoiser(torch.block_diag(cov, torch.eye(1)), 4)
        pair = torch.cat([z, y], 1)
        torch.testing.assert_close(network.view("x", "y")(pair, logsnr), both(pair, logsnr), rtol=1e-4, atol=1e-5)


def test_check_denoiser_passes_on_a_view():
    cov = joint(0.9, 0.2)
    network = VectorNetwork({"x": 2, "y": 2}, cov)
    generator = torch.Generator().manual_seed(3)
    pairs = (torch.randn(64, 4, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(cov).T).float()
    found = check_denoiser(network.view("x"), pairs[:, :2], {"y": pairs[:, 2:]})
    assert float(found.error[0]) < 0.01 < 0.9 < float(found.error[-1])


def test_absent_is_not_zero():
    network = stir(VectorNetwork({"x": 2, "y": 1, "c": 1}, torch.eye(4)))
    z, logsnr = torch.randn(8, 2), torch.zeros(8, dtype=torch.float64)
    view, zero = network.view("x"), torch.zeros(8, 1)
    answers = [view(z, logsnr, cond).detach() for cond in (None, {"y": zero}, {"c": zero}, {"y": zero, "c": zero})]
    for i, one in enumerate(answers):
        for other in answers[:i]:
            assert float((one - other).abs().max()) > 1e-3
    torch.testing.assert_close(view(z, logsnr, {}), answers[0])
    # The order in which variables are given is no matter.
    torch.testing.assert_close(view(z, logsnr, {"c": zero, "y": zero}), answers[3])


def test_a_stack_is_its_members():
    cov = torch.stack([joint(0.9), joint(0.1)])
    network = stir(VectorNetwork({"x": 1, "y": 1}, cov))
    z, y = torch.randn(2, 2, 16, 1)
    logsnr = torch.linspace(-5, 5, 16, dtype=torch.float64).expand(2, -1)
    together = network.stacked(Roles(("x",), ("y",)), z, logsnr, y)
    for k in range(2):
        alone = network.member(k).view("x")(z[k], logsnr[k], {"y": y[k]})
        torch.testing.assert_close(together[k], alone, rtol=1e-5, atol=1e-6)
    assert float((together[0] - together[1]).detach().abs().max()) > 0.1
    with pytest.raises(ValueError, match="member"):
        network.view("x")(z[0], logsnr[0])
    with pytest.raises(IndexError, match="2 members"):
        network.member(2)


def test_conditional_information_of_three_variables():
    """I(x; y | c) from one network, against the closed form."""
    cov = torch.tensor([[1.0, 0.6, 0.5], [0.6, 1.0, 0.4], [0.5, 0.4, 1.0]], dtype=torch.float64)
    network = VectorNetwork({"x": 1, "y": 1, "c": 1}, cov)
    generator = torch.Generator().manual_seed(0)
    values = (torch.randn(4000, 3, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(cov).T).float()
    x, y, c = values.split(1, 1)
    found = MMG("gap", Trapezoid(64))(network.view("x"), x, {"y": y, "c": c}, {"c": c}).mean()
    partial = (0.6 - 0.5 * 0.4) / math.sqrt((1 - 0.25) * (1 - 0.16))
    truth = -0.5 * math.log(1 - partial**2)
    assert abs(found.value - truth) < 4 * found.stderr + 2e-3
    assert found.stderr < 0.02 < truth


def test_what_is_learnt_counts_as_much_as_the_linear_prediction_leaves():
    """Of a Gaussian of variance v, a linear prediction leaves a^2 v / (a^2 v + s^2) of the noise unexplained."""
    v = torch.tensor([2.0, 0.25], dtype=torch.float64)
    network = VectorNetwork({"x": 2}, v.diag(), width=4)
    z = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    logsnr = torch.linspace(-6, 8, 20, dtype=torch.float64)
    before = network.view("x")(z, logsnr)
    with torch.no_grad():
        network.outlet.bias[..., :2] = 1.0
    a2, s2 = torch.sigmoid(logsnr)[:, None], torch.sigmoid(-logsnr)[:, None]
    left = (a2 * v / (a2 * v + s2)).sqrt().float()
    torch.testing.assert_close(network.view("x")(z, logsnr) - before, left, rtol=1e-4, atol=1e-5)


def test_norms_are_features_of_their_variables():
    """Whatever the order in which variables are diffused and given: with one weight, that of the norm of x, nothing else speaks."""
    sizes = {"x": 2, "y": 3}
    network = VectorNetwork(sizes, torch.eye(5), width=4)
    place = (5 + 2 * 2) * 5  # behind five values of every coordinate, and their products with two norms
    with torch.no_grad():
        network.inlet.weight.zero_()
        network.inlet.weight[:, place] = torch.linspace(-1, 1, 4)
        network.outlet.weight.normal_(generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    x, y, turned = torch.randn(6, 2, generator=generator), torch.randn(6, 3, generator=generator), torch.zeros(6, 2)
    turned[:, 0], turned[:, 1] = -x[:, 1], x[:, 0]
    logsnr = torch.zeros(6, dtype=torch.float64)

    def hidden(diffused, z, given):
        kept = []
        hook = network.trunk[0].register_forward_pre_hook(lambda module, args: kept.append(args[0].detach()))
        network.view(diffused)(z, logsnr, given)
        hook.remove()
        return kept[0]

    for diffused, z, given in (("y", y, {"x": x}), ("x", x, {"y": y}), ("x", x, None)):
        one = hidden(diffused, z, given)
        same = hidden(diffused, turned, given) if diffused == "x" else hidden(diffused, 2 * z, {"x": turned})
        torch.testing.assert_close(one, same)
        more = hidden(diffused, 2 * z, given) if diffused == "x" else hidden(diffused, z, {"x": 2 * x})
        assert float((one - more).abs().max()) > 0.1


def test_the_crossed_denoiser_is_the_joint_one_against_both_conditional_ones():
    cov = joint(0.9, 0.2)
    network = VectorNetwork({"x": 2, "y": 2}, cov)
    z, clean = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0))
    logsnr = torch.linspace(-5, 8, 30, dtype=torch.float64)
    crossed = network.crossed("x", "y")
    both = GaussianDenoiser(torch.block_diag(cov, torch.eye(1)), 4)
    torch.testing.assert_close(crossed(z, logsnr), both(z, logsnr), rtol=1e-4, atol=1e-5)
    swap = torch.tensor([2, 3, 0, 1])
    halves = [
        GaussianDenoiser(cov, 2)(z[:, :2], logsnr, {"y": clean[:, 2:]}),
        GaussianDenoiser(cov[swap][:, swap], 2)(z[:, 2:], logsnr, {"y": clean[:, :2]}),
    ]
    found = crossed(z, logsnr, {"x": clean[:, :2], "y": clean[:, 2:]})
    torch.testing.assert_close(found, torch.cat(halves, 1), rtol=1e-4, atol=1e-5)


def test_what_is_absent_has_a_learned_stand_in():
    network = stir(VectorNetwork({"x": 2, "y": 1, "c": 1}, torch.eye(4)))
    z, logsnr = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(8, dtype=torch.float64)
    view, y = network.view("x"), torch.ones(8, 1)
    before = {name: view(z, logsnr, cond).detach() for name, cond in (("none", None), ("y", {"y": y}))}
    with torch.no_grad():
        network.null[..., 2] += 1.0  # of y
    assert float((view(z, logsnr) - before["none"]).detach().abs().max()) > 1e-3
    assert torch.equal(view(z, logsnr, {"y": y}), before["y"])


def test_mixed_precision_leaves_vectors_alone():
    """bfloat16 has three digits: at log-SNR 12 it would round away all that is noise."""
    torch.manual_seed(0)
    network = VectorNetwork({"x": 3, "y": 2}, torch.eye(5, dtype=torch.float64), logsnr_range=(-8.0, 12.0))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, y = torch.randn(64, 3), torch.randn(64, 2)
    logsnr = torch.full((64,), 12.0, dtype=torch.float64)
    expected = network.view("x")(x, logsnr, {"y": y})
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.view("x")(x, logsnr, {"y": y}), expected)


def test_waves_start_as_the_gaussian_law_and_tell_ranks_apart():
    cov = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    plain, wavy = (VectorNetwork({"x": 1, "y": 1}, cov, width=8, waves=waves, seed=1) for waves in (0, 6))
    generator = torch.Generator().manual_seed(0)
    noisy, known = {"x": torch.randn(50, 1, generator=generator)}, {"y": torch.randn(50, 1, generator=generator)}
    level = torch.linspace(-6, 8, 50, dtype=torch.float64)
    for given in ({}, known):
        torch.testing.assert_close(wavy(noisy, level, given), plain(noisy, level, given))
    # A wave is heard through its own row of the first layer: that of frequency 2 of x, and of y, unless y is absent.
    first = wavy.inlet.weight.shape[1] - 4 * 6 * 2
    with torch.no_grad():
        wavy.outlet.weight.normal_(generator=generator)
        for row, value, heard in ((2, noisy["x"], (True, True)), (24 + 3, known["y"], (False, True))):
            wave = networks._ripples(value, wavy.waves)[0][:, 1]
            torch.testing.assert_close(wave, torch.sin(2 * torch.pi * torch.special.ndtr(value[:, 0])))
            before = [wavy(noisy, level, given)["x"] for given in ({}, known)]
            wavy.inlet.weight[0, first + row] += torch.randn(8, generator=generator)
            after = [wavy(noisy, level, given)["x"] for given in ({}, known)]
            assert tuple(not torch.equal(*both) for both in zip(before, after, strict=True)) == heard
    again = VectorNetwork(covariance=wavy.covariance, **wavy.config)
    again.load_state_dict(wavy.state_dict())
    torch.testing.assert_close(again(noisy, level, known), wavy(noisy, level, known))
