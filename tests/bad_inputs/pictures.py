"""Images, as ``pipe(images, prompts)`` takes them."""

import io
import os
import struct
import zlib

import numpy as np
import torch
from PIL import Image

from tests.bad_inputs.room import IMAGE, Room, rows

FORMS = "pipe(images, ...)"


def many_bits(r: Room):
    path = r.folder / "32.tif"
    Image.fromarray(np.full((32, 32), 40_000, dtype=np.int32)).save(path)
    return path


def floats(r: Room):
    path = r.folder / "float.tif"
    Image.fromarray(np.full((32, 32), 0.5, dtype=np.float32)).save(path)
    return path


def bomb(r: Room):
    """The header of a picture of 400 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(header))
    return r.file("bomb.png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + checksum + b"\0\0\0\1IDAT")


def cut(r: Room):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, "png")
    return r.file("cut.png", whole.getvalue()[:600])


def lazily(r: Room):
    return Image.open(cut(r))


def loop(r: Room):
    os.symlink(r.folder / "b.png", r.folder / "a.png")
    os.symlink(r.folder / "a.png", r.folder / "b.png")
    return r.folder / "a.png"


ROWS = (
    *rows(
        FORMS,
        ("no image", lambda r: r.pipe([], "a"), ValueError, "no images"),
        ("None", lambda r: r.pipe(None, "a"), TypeError, "images is a NoneType"),
        ("a number", lambda r: r.pipe(3, "a"), TypeError, "images is a int; expected an image"),
        ("a dict", lambda r: r.pipe({"a": IMAGE}, "a"), TypeError, "images is a dict"),
        ("a generator", lambda r: r.pipe((image for image in [IMAGE]), "a"), TypeError, "images is a generator"),
        ("bytes", lambda r: r.pipe(b"png", "a"), TypeError, "images is a bytes"),
        ("None in a list", lambda r: r.pipe([IMAGE, None], "a"), TypeError, "image 1 is a NoneType"),
        ("nested lists of numbers", lambda r: r.pipe(IMAGE.tolist(), "a"), TypeError, "image 0 is a list"),
        ("two axes", lambda r: r.pipe(np.zeros((32, 32)), "a"), ValueError, "3 or 4 dimensions"),
        ("channels first, array", lambda r: r.pipe(np.zeros((3, 32, 32)), "a"), ValueError, r"expected .* \(H, W, 3\)"),
        (
            "channels last, tensor",
            lambda r: r.pipe(torch.zeros(32, 32, 3), "a"),
            ValueError,
            r"expected .* \(3, H, W\)",
        ),
        ("one channel", lambda r: r.pipe(np.zeros((32, 32, 1)), "a"), ValueError, r"\(32, 32, 1\)"),
        ("four channels", lambda r: r.pipe(np.zeros((32, 32, 4)), "a"), ValueError, r"\(32, 32, 4\)"),
        ("no pixels", lambda r: r.pipe(np.zeros((0, 32, 3)), "a", resize=True), ValueError, r"\(0, 32, 3\)"),
        ("booleans", lambda r: r.pipe(IMAGE > 0, "a"), ValueError, "dtype bool; expected uint8"),
        ("32-bit integers", lambda r: r.pipe(IMAGE.astype(np.int32), "a"), ValueError, "dtype int32"),
        ("complex numbers", lambda r: r.pipe(IMAGE.astype(complex), "a"), ValueError, "dtype complex128"),
        ("text in an array", lambda r: r.pipe(IMAGE.astype(str), "a"), ValueError, "dtype <U"),
        ("objects in an array", lambda r: r.pipe(np.full((32, 32, 3), None), "a"), ValueError, "dtype object"),
        ("an integer tensor", lambda r: r.pipe(torch.zeros(3, 32, 32).long(), "a"), ValueError, "torch.int64"),
        ("a sparse tensor", lambda r: r.pipe(torch.zeros(3, 32, 32).to_sparse(), "a"), ValueError, "expected a dense"),
        ("a meta tensor", lambda r: r.pipe(torch.zeros(3, 32, 32, device="meta"), "a"), ValueError, "on meta"),
        ("NaN", lambda r: r.pipe(IMAGE * np.nan, "a"), ValueError, "image 0 has NaN"),
        ("infinity", lambda r: r.pipe(IMAGE + np.inf, "a"), ValueError, "image 0 has NaN or infinite"),
        ("masked pixels", lambda r: r.pipe(np.ma.masked_less(IMAGE, 1), "a"), ValueError, "masked pixels"),
        ("floats from 0 to 255", lambda r: r.pipe(IMAGE * 255, "a"), ValueError, "Divide by 255"),
        ("floats from -1 to 1", lambda r: r.pipe(IMAGE - 1, "a"), ValueError, r"map \[-1, 1\]"),
        ("a PIL image of 32 bits", lambda r: r.pipe(Image.new("I", (32, 32)), "a"), ValueError, "more than 16 bits"),
        ("a PIL image without pixels", lambda r: r.pipe(Image.new("RGB", (0, 0)), "a"), ValueError, r"\(0, 0, 3\)"),
        ("a PIL image of a cut file", lambda r: r.pipe(lazily(r), "a"), ValueError, "cannot be read"),
        ("sizes that differ", lambda r: r.pipe([IMAGE, np.zeros((64, 64, 3))], "a"), ValueError, "differ in size"),
        ("an odd size", lambda r: r.pipe(np.zeros((30, 32, 3)), "a"), ValueError, "multiples of 8.*resize=True"),
    ),
    *rows(
        "pipe(path, ...)",
        ("no such file", lambda r: r.pipe("nowhere.png", "a"), FileNotFoundError, "nowhere.png.*no such file"),
        ("an address", lambda r: r.pipe("https://a.org/b.png", "a"), FileNotFoundError, "no such file"),
        ("empty text", lambda r: r.pipe("", "a"), FileNotFoundError, "no such file"),
        ("a folder", lambda r: r.pipe(r.folder, "a"), FileNotFoundError, "this is a folder; expected an"),
        ("a loop of links", lambda r: r.pipe(loop(r), "a"), FileNotFoundError, "no such file"),
        ("a null byte", lambda r: r.pipe("a\0.png", "a"), FileNotFoundError, "no such file"),
        ("a name too long for a file", lambda r: r.pipe("a" * 300, "a"), ValueError, "too long"),
        ("text in a .png", lambda r: r.pipe(r.file("a.png", "text"), "a"), ValueError, r"a\.png\) cannot be read"),
        ("an empty .png", lambda r: r.pipe(r.file("a.png"), "a"), ValueError, "cannot be read as an image"),
        ("a cut .png", lambda r: r.pipe(cut(r), "a"), ValueError, "cannot be read as an image"),
        ("32 bits, which PIL would cut to white", lambda r: r.pipe(many_bits(r), "a"), ValueError, "mode I"),
        ("a .tif of floats", lambda r: r.pipe(floats(r), "a"), ValueError, "mode F"),
        ("a .webp that ends early", lambda r: r.pipe(r.file("a.webp", b"RIFF"), "a"), ValueError, "cannot be read as"),
        (
            "32 bits, within a list",
            lambda r: r.pipe([IMAGE, many_bits(r)], "a"),
            ValueError,
            r"image 1 \(.*mode I\)",
        ),
        ("a decompression bomb", lambda r: r.pipe(bomb(r), "a"), ValueError, "decompression bomb"),
    ),
)
