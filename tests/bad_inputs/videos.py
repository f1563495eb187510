"""Videos, as ``pipe(videos, prompts)`` of a model of videos takes them, and where a model of images is asked."""

from functools import cache

import numpy as np
from PIL import Image

from mmg_diffusers import MMGPipeline
from tests.bad_inputs.room import IMAGE, Room, rows
from tests.pipelines.families import wan

FRAME = np.zeros((16, 32, 3), np.uint8)


@cache
def model() -> MMGPipeline:
    """A tiny Wan."""
    return MMGPipeline(wan.ROWS[0].build())


def clip(r: Room):
    """Half of an animation."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 16, 32, 3), dtype=np.uint8)
    first, *others = map(Image.fromarray, noise)
    first.save(r.folder / "a.gif", save_all=True, append_images=others)
    body = (r.folder / "a.gif").read_bytes()
    return r.file("a.gif", body[: len(body) // 2])


ROWS = (
    *rows(
        "pipe(videos, ...)",
        ("7 frames", lambda r: model()([FRAME] * 7, "a"), ValueError, "has 7 frames.*Nearest are 5 and 9"),
        ("two stills as a list", lambda r: model()([FRAME] * 2, ["a", "b"]), ValueError, r"\[\[image\], \[image\]\]"),
        ("a prompt for each frame", lambda r: model()([FRAME] * 5, ["a"] * 5), ValueError, "5 prompts for 1 videos"),
        ("no video", lambda r: model()([], "a"), ValueError, "no videos"),
        ("a video without frames", lambda r: model()([[], []], "a"), ValueError, "video 0 has no frames"),
        ("None", lambda r: model()(None, "a"), TypeError, "videos is a NoneType"),
        ("a still beside a video", lambda r: model()([FRAME, [FRAME] * 5], "a"), ValueError, "a single image"),
        (
            "frames of two sizes",
            lambda r: model()([[FRAME] * 4 + [FRAME[:, :16]]], "a"),
            ValueError,
            "frame 4 of video 0 is 16 x 16",
        ),
        (
            "lengths that differ",
            lambda r: model()([[FRAME] * 5, [FRAME]], "a", resize=True),
            ValueError,
            "videos differ in size.*Measure each number of frames on its own",
        ),
        ("an odd size", lambda r: model()([FRAME[:9]] * 5, "a"), ValueError, "video 0 is 9 x 32.*multiples of 16"),
        ("pixels up to 255", lambda r: model()([FRAME + 255.0] * 5, "a"), ValueError, "frame 0 of video 0 has pixels"),
        ("an array of 6 axes", lambda r: model()(FRAME[None, None, None], "a"), ValueError, "4 or 5 dimensions"),
        ("no such folder", lambda r: model()("nowhere", "a"), FileNotFoundError, "no such file"),
        ("an empty folder", lambda r: model()(r.folder, "a"), ValueError, "is a folder without pictures"),
        ("a film", lambda r: model()(r.file("a.mp4", b"film"), "a"), ValueError, "is a film"),
        ("a cut .gif", lambda r: model()(clip(r), "a"), ValueError, "cannot be read"),
    ),
    *rows(
        "pipe(images, ...), given videos",
        ("frames in a list", lambda r: r.pipe([[IMAGE] * 5], "a"), TypeError, "a list of 5, as a video is"),
        ("an array of frames in a list", lambda r: r.pipe([np.stack([IMAGE] * 5)], "a"), ValueError, "has shape"),
        ("an array of videos", lambda r: r.pipe(np.stack([[IMAGE] * 5]), "a"), ValueError, "3 or 4 dimensions"),
    ),
)
