"""However a picture is kept, what is measured is what people see: upright, and on white where it is transparent."""

import io
import warnings

import diffusers.utils
import numpy as np
import pytest
import torch
from PIL import Image

from mmg_diffusers.files.identity import Identity
from mmg_diffusers.pairs.images import (
    LAID_ON_WHITE,
    NEARLY_BLACK,
    ONE_FRAME,
    SIXTEEN_BITS,
    WITHOUT_PROFILE,
    Picture,
    PictureFile,
    as_list,
    load_image,
    read_picture,
)

NOISE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)


def saved(picture, path, **options):
    picture.save(path, **options)
    return path


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phones_picture_stands_upright(tmp_path, orientation, kind):
    path = saved(Image.fromarray(NOISE), tmp_path / f"a.{kind}", exif=turned(orientation))
    expected = torch.from_numpy(np.asarray(diffusers.utils.load_image(str(path))).copy()).permute(2, 0, 1) / 255
    assert expected.shape == ((3, 16, 24) if orientation > 4 else (3, 24, 16))
    loaded = Image.open(path)
    loaded.load()
    for image in (path, str(path), Image.open(path), loaded, loaded.convert("RGB"), PictureFile("", path.read_bytes())):
        assert torch.equal(load_image(image), expected)
    # Turned by hand, it is not turned again.
    upright = diffusers.utils.load_image(str(path))
    assert torch.equal(load_image(upright), expected)


def test_exif_data_that_are_damaged_do_not_hide_the_pixels(tmp_path):
    path = saved(Image.fromarray(NOISE), tmp_path / "a.png", exif=b"Exif\0\0MM no such thing")
    assert torch.equal(load_image(path), load_image(NOISE))


def two_colours(hidden):
    """Red on the left; on the right nothing is seen, and a colour is hidden there."""
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:, :4] = (255, 0, 0, 255)
    pixels[:, 4:] = (*hidden, 0)
    return Image.fromarray(pixels)


def palette(hidden):
    picture = Image.fromarray(np.repeat([[0] * 4 + [1] * 4], 8, 0).astype(np.uint8), "P")
    picture.putpalette([255, 0, 0, *hidden])
    picture.info["transparency"] = 1
    return picture


def keyed(hidden):
    """One colour of an RGB picture stands for nothing."""
    picture = two_colours(hidden).convert("RGB")
    picture.info["transparency"] = hidden
    return picture


@pytest.mark.parametrize("make", [two_colours, palette, keyed])
@pytest.mark.parametrize("kind", ["png", "gif", "webp", None])
def test_transparent_pixels_are_white_whatever_is_hidden_there(tmp_path, make, kind):
    expected = np.full((8, 8, 3), 255, dtype=np.uint8)
    expected[:, :4] = (255, 0, 0)
    for hidden in ((0, 0, 0), (0, 200, 30)):
        image = make(hidden)
        if kind is not None:
            if make is keyed and kind != "png":
                pytest.skip("has no colour that stands for nothing")
            options = {"lossless": True, "exact": True} if kind == "webp" else {}
            image = saved(image, tmp_path / f"a.{kind}", **options)
        picture = read_picture(image)
        assert torch.equal(picture.pixels, load_image(expected))
        assert picture.remarks == (LAID_ON_WHITE,)


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa", "1", "L"])
def test_every_kind_of_transparency(mode):
    if mode in ("1", "L"):
        image = Image.new(mode, (2, 2), 0)
        image.info["transparency"] = 0
    else:
        image = Image.new("RGBA", (2, 2), (90, 90, 90, 0)).convert("LA" if mode in ("LA", "La") else "RGBA")
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
        if mode == "PA":
            image.putalpha(0)
    picture = read_picture(image)
    assert picture.remarks == (LAID_ON_WHITE,)
    assert bool((picture.pixels == 1).all())


def test_half_of_a_colour_is_mixed_with_white_and_all_of_it_is_not():
    pixels = np.dstack([NOISE, np.full((24, 16), 128, np.uint8)])
    expected = np.round((NOISE * 128.0 + 255 * 127.0) / 255).astype(np.uint8)
    assert torch.equal(load_image(Image.fromarray(pixels)), load_image(expected))
    pixels[..., 3] = 255
    picture = read_picture(Image.fromarray(pixels))
    assert torch.equal(picture.pixels, load_image(NOISE))
    assert picture.remarks == ()


def test_other_modes():
    assert torch.equal(load_image(Image.fromarray(NOISE[..., 0])), load_image(np.repeat(NOISE[..., :1], 3, 2)))
    cmyk = Image.fromarray(NOISE).convert("CMYK")
    assert read_picture(cmyk).remarks == (WITHOUT_PROFILE,)
    assert torch.equal(load_image(cmyk), load_image(np.asarray(cmyk.convert("RGB"))))
    indexed = Image.fromarray(NOISE).convert("P")
    assert torch.equal(load_image(indexed), load_image(np.asarray(indexed.convert("RGB"))))
    for mode in ("I", "F"):
        with pytest.raises(ValueError, match="more than 16 bits a channel"):
            load_image(Image.new(mode, (8, 8)))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_brought_to_eight(tmp_path, ending):
    grey = NOISE[..., 0]
    path = tmp_path / f"a.{ending}"
    # 257 times eight bits: white is 65535. Upright, as every picture.
    Image.fromarray(grey.astype(np.uint16) * 257).save(path, **({"exif": turned(6)} if ending == "png" else {}))
    picture = read_picture(path)
    assert picture.remarks == (SIXTEEN_BITS,)
    expected = np.rot90(grey, -1).copy() if ending == "png" else grey
    assert torch.equal(picture.pixels, load_image(np.repeat(expected[..., None], 3, 2)))


def test_pictures_that_are_nearly_black_are_remarked_on():
    twice = NOISE.astype(np.float32) / 255 / 255
    assert read_picture(twice).remarks == (NEARLY_BLACK,)
    assert read_picture(np.zeros((8, 8, 3), np.uint8)).remarks == (NEARLY_BLACK,)
    dark = np.zeros((8, 8, 3), np.uint8)
    dark[3, 4] = 90
    assert read_picture(dark).remarks == ()


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_of_several_frames_the_first_is_measured_and_said(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = saved(frames[0], tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], lossless=True)
    picture = read_picture(path)
    assert picture.remarks == (ONE_FRAME,)
    assert torch.equal(picture.pixels, load_image(frames[0]))
    second = Image.open(path)
    second.seek(1)
    assert torch.equal(load_image(second), load_image(frames[1]))


def test_a_data_set_may_want_its_pictures_grey():
    body = io.BytesIO()
    Image.fromarray(NOISE).save(body, "png")
    grey = load_image(PictureFile("", body.getvalue(), "L"))
    assert torch.equal(grey, load_image(Image.fromarray(NOISE).convert("L")))
    assert torch.equal(load_image(PictureFile("", body.getvalue(), "RGB")), load_image(NOISE))


def test_the_identity_of_a_file_is_that_of_its_bytes(tmp_path):
    path = saved(Image.fromarray(NOISE), tmp_path / "a.png")
    assert PictureFile(str(path)).identity() == PictureFile("", path.read_bytes()).identity() == Identity.of_file(path)
    assert Picture(load_image(NOISE)).identity() == Picture(load_image(path)).identity()


def test_a_disk_that_fails_is_no_broken_picture(tmp_path, monkeypatch):
    path = saved(Image.fromarray(NOISE), tmp_path / "a.png")

    def fails(_path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.read_bytes", fails)
    with pytest.raises(OSError, match=r"image 3 \(.*a.png\) cannot be read: Input/output error"):
        load_image(path, 3)


def test_what_was_done_to_pictures_is_in_the_record(pipe):
    clear = Image.new("RGBA", (32, 32), (0, 0, 255, 90))
    images = [NOISE[:16].repeat(2, 0).repeat(2, 1), clear, clear]
    with pytest.warns(UserWarning, match=r"transparent pixels are laid on white \(image 1, 2\)"):
        out = pipe(images, "a red circle", levels=2)
    assert LAID_ON_WHITE in out.notes
    assert LAID_ON_WHITE in out.warnings()
    with warnings.catch_warnings(record=True):
        found = pipe.classify(images[1], ["a red circle", "a blue circle"], levels=2)
    assert LAID_ON_WHITE in found.notes
    on_white = np.asarray(Image.alpha_composite(Image.new("RGBA", (32, 32), "white"), clear).convert("RGB"))
    alone = pipe(on_white, "a red circle", levels=2, pair_ids=[1])
    torch.testing.assert_close(out.using("gap").nats[1:2], alone.using("gap").nats, rtol=1e-4, atol=1e-4)


def test_one_picture_is_a_list_of_one():
    assert len(as_list(PictureFile("a.png"))) == len(as_list(Picture(load_image(NOISE)))) == 1
