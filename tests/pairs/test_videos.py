"""Videos as users have them: frames in lists, arrays, folders and animations."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmg_diffusers.pairs.images import ONE_FRAME, Images, Picture, PictureFile, load_image, read_picture
from mmg_diffusers.pairs.videos import list_videos, read_video

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(FRAMES).permute(0, 3, 1, 2).float() / 255
PICTURES = [Image.fromarray(frame) for frame in FRAMES]


def test_every_form_of_a_video_has_the_same_pixels(tmp_path):
    # Names in the order of their numbers, and other files passed over.
    for k, picture in enumerate(PICTURES):
        picture.save(tmp_path / f"f{k}.png")
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / ".hidden.png").write_text("none")
    film = tmp_path.parent / "film.webp"
    PICTURES[0].save(film, save_all=True, append_images=PICTURES[1:], lossless=True, duration=40)
    opened = Image.open(film)
    forms = (
        *(PICTURES, tuple(PICTURES), FRAMES, PIXELS, list(FRAMES), list(PIXELS), FRAMES / 255),
        *(tmp_path, str(tmp_path), film, PictureFile(str(film)).read(), opened, Picture(PIXELS)),
        [tmp_path / f"f{k}.png" for k in range(12)],
    )
    for form in forms:
        (one,) = list_videos(form)
        read = read_video(one)
        assert read.remarks == ()
        torch.testing.assert_close(read.pixels, PIXELS, rtol=0, atol=1e-6)
    assert read_video(film).identity() == read_video(PICTURES).identity() != read_video(PICTURES[:9]).identity()
    # Of an animation an image model measures one frame, and says so.
    assert read_picture(film).remarks == (ONE_FRAME,)


def test_frames_of_a_gif_are_those_that_are_shown(tmp_path):
    # The second frame keeps what it does not draw over.
    base = Image.new("P", (8, 6), 1)
    base.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    second = base.copy()
    second.paste(2, (0, 0, 4, 6))
    base.save(tmp_path / "a.gif", save_all=True, append_images=[second], duration=40)
    pixels = read_video(tmp_path / "a.gif").pixels
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    assert torch.equal(pixels[0], red[:, None, None].expand(3, 6, 8))
    assert torch.equal(pixels[1, :, 0, 0], blue)
    assert torch.equal(pixels[1, :, 0, 7], red)


def test_one_image_is_a_video_of_one_frame(tmp_path):
    PICTURES[0].save(tmp_path / "a.png")
    for form in (PICTURES[0], FRAMES[0], PIXELS[0], tmp_path / "a.png", Picture(PIXELS[0]), [PICTURES[0]]):
        (one,) = list_videos(form)
        assert torch.equal(read_video(one).pixels, PIXELS[:1])


def test_lists_of_videos(tmp_path):
    (tmp_path / "one").mkdir()
    batch = torch.stack([PIXELS, PIXELS])
    for form in (batch, batch.numpy(), [PICTURES, PICTURES], [PIXELS, FRAMES], [[PICTURES[0]], [PICTURES[1]]]):
        assert len(list_videos(form)) == 2
    assert len(list_videos(PICTURES)) == len(list_videos(FRAMES)) == len(list_videos(["a.png", "b.png"])) == 1
    assert len(list_videos(["a.gif", "b.webp"])) == len(list_videos([tmp_path / "one", tmp_path / "one"])) == 2
    # What a run hands on is one for each pair, whatever it is.
    assert len(list_videos(Images(PICTURES))) == len(PICTURES)


@pytest.mark.parametrize(
    ("form", "error", "message"),
    [
        (3, TypeError, "videos is a int; expected a video"),
        ([], ValueError, "no videos were given"),
        (np.zeros((0, 2, 6, 8, 3), np.uint8), ValueError, "no videos were given"),
        (FRAMES[None, None], ValueError, "4 or 5 dimensions, got shape"),
        ([PICTURES[0], PICTURES], ValueError, r"a single image \(0\) beside others that are videos \(1\)"),
    ],
)
def test_lists_that_hold_no_videos(form, error, message):
    with pytest.raises(error, match=message):
        list_videos(form)


@pytest.mark.parametrize(
    ("form", "error", "message"),
    [
        ([], ValueError, "video 2 has no frames"),
        ([PICTURES[0], PICTURES[1].resize((4, 4))], ValueError, "frame 1 of video 2 is 4 x 4, and its first is 6 x 8"),
        ([PICTURES[0], None], TypeError, "frame 1 of video 2 is a NoneType"),
        (
            [PICTURES[0], PICTURES[:2]],
            TypeError,
            "frame 1 of video 2 is a list of 2, as a video is; expected one image",
        ),
        (FRAMES[..., :2], ValueError, "frame 0 of video 2 has shape"),
        (PIXELS * 255, ValueError, r"frame 0 of video 2 has pixels in \[0, 249\]"),
        (PIXELS[0, 0], ValueError, r"video 2 has shape \(6, 8\)"),
        ("film.mp4", ValueError, "is a film, which this library does not decode"),
        ("nowhere.gif", FileNotFoundError, "video 2 .*no such file"),
        (3, TypeError, "video 2 is a int"),
    ],
)
def test_videos_that_cannot_be_read(form, error, message):
    with pytest.raises(error, match=message):
        read_video(form, 2)


def test_folders_and_damaged_animations_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder without pictures"):
        read_video(tmp_path)
    with pytest.raises(FileNotFoundError, match="this is a folder; expected an image"):
        load_image(tmp_path)
    PICTURES[0].save(tmp_path / "a.gif", save_all=True, append_images=PICTURES[1:])
    whole = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        read_video(tmp_path / "a.gif")


def test_a_video_is_no_image():
    with pytest.raises(TypeError, match="image 0 is a list of 12, as a video is; expected one image"):
        read_picture(PICTURES)
    with pytest.raises(ValueError, match="image 0 is a video of 12 frames"):
        read_picture(Picture(PIXELS))
