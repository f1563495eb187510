"""Digits from MNIST's own files, and the truths about them by other routes."""

import gzip
import math

import numpy as np
import pytest

from mmg_diffusers.worlds.digits import Digits

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 5, 4)).astype(np.uint8)
LABELS = np.repeat([0, 1, 7], [30, 20, 10])[RNG.permutation(60)]
H = -(0.5 * math.log(0.5) + math.log(1 / 3) / 3 + math.log(1 / 6) / 6)


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES[:40]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:40]))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[40:])))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[40:])))
    # What a Mac leaves beside the files that it copies.
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"\0\5\26\7")
    return tmp_path


@pytest.mark.parametrize(
    ("part", "rows"), [("train", slice(0, 40)), ("test", slice(40, 60)), ("both", slice(0, 60))]
)  # fmt: skip
def test_parts_of_mnist(mnist, part, rows):
    digits = Digits.read(mnist, part)
    assert np.array_equal(digits.images, IMAGES[rows])
    assert np.array_equal(digits.labels, LABELS[rows])
    assert digits.labels.dtype == np.int64


def test_the_entropy_of_the_labels_is_exact():
    digits = Digits(IMAGES, LABELS)
    assert digits.probability() == pytest.approx({0: 1 / 2, 1: 1 / 3, 7: 1 / 6})
    assert digits.entropy() == pytest.approx(H, abs=1e-12)
    assert digits.mutual_information() == pytest.approx(H, abs=1e-12)
    assert digits.of([1, 7]).entropy() == pytest.approx(math.log(3) - 2 / 3 * math.log(2), abs=1e-12)
    assert digits.of([7]).entropy() == 0


def test_a_picture_with_two_labels_tells_less():
    """20 pictures, each twice, of which a half carry two labels: what is left open is ln 2 for a half of the pairs."""
    images = np.concatenate([IMAGES[:20], IMAGES[:20]])
    labels = np.concatenate([np.arange(20) % 2, np.where(np.arange(20) < 10, np.arange(20) % 2, 1 - np.arange(20) % 2)])
    digits = Digits(images, labels)
    table = {}
    for image, label in zip(images, labels, strict=True):  # the plug-in formula, I = H(X) + H(Y) - H(X, Y)
        for key in (("x", image.tobytes()), ("y", label), (image.tobytes(), label)):
            table[key] = table.get(key, 0) + 1

    def entropy(chosen):
        shares = np.array([count for key, count in table.items() if chosen(key)]) / 40
        return -(shares * np.log(shares)).sum()

    counted = entropy(lambda k: k[0] == "x") + entropy(lambda k: k[0] == "y")
    counted -= entropy(lambda k: k[0] not in ("x", "y"))
    assert digits.mutual_information() == pytest.approx(counted, abs=1e-12)
    assert digits.mutual_information() == pytest.approx(math.log(2) / 2, abs=1e-12)
    assert digits.entropy() == pytest.approx(math.log(2), abs=1e-12)


def test_samples_are_different_pairs_of_the_set():
    digits = Digits(IMAGES, LABELS)
    first, again, other = digits.sample(50, seed=1), digits.sample(50, seed=1), digits.sample(50, seed=2)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    assert [known[image.tobytes()] for image in first.images] == first.labels.tolist()
    assert len({image.tobytes() for image in first.images}) == 50


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda folder: Digits.read(folder / "none"), FileNotFoundError, "no train-images-idx3-ubyte in"),
        (lambda folder: Digits.read(folder, "all"), ValueError, "expected one of train, test, both"),
        (lambda folder: Digits(IMAGES.tolist(), LABELS), TypeError, "images is a list"),
        (lambda folder: Digits(IMAGES / 255, LABELS), ValueError, "dtype float64; expected .N, H, W. of uint8"),
        (lambda folder: Digits(IMAGES[:5], LABELS), ValueError, "expected 5 integers"),
        (lambda folder: Digits(IMAGES, LABELS / 2), ValueError, "dtype float64; expected 60 integers"),
        (lambda folder: Digits(IMAGES, LABELS).of([3]), ValueError, "images have shape .0, 5, 4."),
        (lambda folder: Digits(IMAGES, LABELS).sample(61), ValueError, "at most 60"),
        (lambda folder: Digits(IMAGES, LABELS).sample(0), ValueError, "at least 1 pair"),
    ],
)
def test_what_is_not_digits_is_refused(mnist, call, error, says):
    with pytest.raises(error, match=says):
        call(mnist)
