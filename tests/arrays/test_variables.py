"""Image data sets and variables as people keep them, and the script that trains on them."""

import gzip
import io
import pickle

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from mmg_diffusers import Estimate, estimate_mi
from mmg_diffusers.arrays.estimate import FittedModel
from mmg_diffusers.arrays.image_data import read_idx, read_images
from mmg_diffusers.arrays.variables import read_variables
from mmg_diffusers.pairs.images import load_image
from tests.commands.calling import answered, refused

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
LABELS = np.arange(40) % 3


def idx(array, *, cut=None):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return (head + array.astype(np.uint8).tobytes())[:cut]


@pytest.fixture
def mnist(tmp_path):
    """A folder as MNIST's is: two parts, one of them gzipped."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:10]))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:10]))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[10:])))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[10:])))
    return folder


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()


@pytest.fixture
def parquet(tmp_path):
    rows = pandas.DataFrame({"image": [{"bytes": png(image), "path": None} for image in IMAGES], "label": LABELS})
    rows.to_parquet(tmp_path / "images.parquet")
    return tmp_path / "images.parquet"


# ---- image data sets ----


def test_images_of_every_kind_are_the_same(mnist, parquet, tmp_path):
    for source in (mnist, parquet, parquet.parent):
        if source == parquet.parent:
            source = tmp_path / "folder"
            source.mkdir()
            parquet.rename(source / "part-0.parquet")
        found = read_images(source)
        assert np.array_equal(found.images, IMAGES)
        assert np.array_equal(found.labels, LABELS)


def test_a_folder_of_pictures(tmp_path):
    pytest.importorskip("datasets")
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
    for k in range(4):
        (tmp_path / "ab"[k % 2] / f"{k}.png").write_bytes(png(IMAGES[k]))
    found = read_images(tmp_path)
    order = [0, 2, 1, 3]
    assert np.array_equal(found.images, IMAGES[order])
    assert found.labels.tolist() == [0, 0, 1, 1]


def test_files_that_a_mac_leaves_are_not_read(mnist, tmp_path):
    for name in ("._train-images-idx3-ubyte", "._t10k-images-idx3-ubyte.gz", ".DS_Store"):
        (mnist / name).write_bytes(b"\0\5\26\7")
    assert np.array_equal(read_images(mnist).images, IMAGES)
    folder = tmp_path / "tables"
    (folder / ".hidden").mkdir(parents=True)
    rows = pandas.DataFrame({"image": [{"bytes": png(image), "path": None} for image in IMAGES[:3]]})
    rows.to_parquet(folder / "part.parquet")
    for place in ("._part.parquet", ".hidden/part.parquet"):
        (folder / place).write_bytes(b"\0\5\26\7")
    assert np.array_equal(read_images(folder).images, IMAGES[:3])


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, format="png", **options)
    return buffer.getvalue()


def test_pictures_in_tables_are_those_that_pairs_measure(tmp_path):
    """Upright, on the same ground, and refused alike: one way in for all."""
    colours = np.random.default_rng(1).integers(0, 256, (6, 6, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    cells = [
        saved(Image.fromarray(colours[..., :3])),
        saved(Image.fromarray(colours, "RGBA")),
        saved(Image.fromarray(colours[..., :3]), exif=exif),
        saved(Image.fromarray(colours[..., :3]).convert("P")),
    ]
    pandas.DataFrame({"image": [{"bytes": cell, "path": None} for cell in cells]}).to_parquet(tmp_path / "p.parquet")
    images = read_images(tmp_path / "p.parquet").images
    for image, cell in zip(images, cells, strict=True):
        expected = load_image(Image.open(io.BytesIO(cell))).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image, np.rint(expected * 255))
    assert np.array_equal(images[0], colours[..., :3])
    deep = io.BytesIO()
    Image.fromarray(np.full((6, 6), 40000, dtype=np.int32)).save(deep, "tiff")
    deep = deep.getvalue()
    pandas.DataFrame({"image": [{"bytes": deep, "path": None}]}).to_parquet(tmp_path / "deep.parquet")
    with pytest.raises(ValueError, match=r"row 0 holds no picture .*more than 16 bits a channel"):
        read_images(tmp_path / "deep.parquet")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (idx(IMAGES, cut=500), "fetch it again"),
        (idx(IMAGES, cut=9), "fetch it again"),
        (gzip.compress(idx(IMAGES))[:300], "truncated or damaged gzip"),
        (b"\x89PNG....", "expected an idx file"),
        (b"", "expected an idx file"),
        (pickle.dumps(IMAGES), "expected an idx file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, body, says):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(body)
    with pytest.raises(ValueError, match=says):
        read_images(tmp_path)


def test_bad_image_sets_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image data set"):
        read_images(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="parquet"):
        read_images(tmp_path / "missing.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="cannot be read as an image data set"):
        read_images(tmp_path / "empty")
    pandas.DataFrame({"pixels": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="expected 'image' among them"):
        read_images(tmp_path / "other.parquet")
    for cells, says in (
        ([b"no picture"], "row 0 holds no picture"),
        ([png(IMAGES[0]), png(IMAGES[0][:4])], "use one size"),
    ):
        pandas.DataFrame({"image": [{"bytes": cell, "path": None} for cell in cells]}).to_parquet(
            tmp_path / "bad.parquet"
        )
        with pytest.raises(ValueError, match=says):
            read_images(tmp_path / "bad.parquet")
    (tmp_path / "x-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "x-labels-idx1-ubyte").write_bytes(idx(LABELS[:5]))
    with pytest.raises(ValueError, match="as many labels"):
        read_images(tmp_path)
    assert read_idx(tmp_path / "x-labels-idx1-ubyte").tolist() == LABELS[:5].tolist()


# ---- variables ----


def test_variables_from_files(tmp_path, mnist):
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 5))
    np.savez(tmp_path / "v.npz", x=a, other=b)
    np.save(tmp_path / "v.npy", np.stack([a, b, c], 1))
    np.save(tmp_path / "two.npy", np.stack([a, b], 1))
    table = pandas.DataFrame({"x": a, "b": b, "y": [0, 1, 1, 0, 2], "name": list("abcde")})
    table.to_csv(tmp_path / "v.csv", index=False)
    table.to_parquet(tmp_path / "v.parquet")
    found = read_variables(tmp_path / "v.npz", (), ("other",))
    assert np.array_equal(found["y"], b)
    found = read_variables(tmp_path / "v.npy", ("0", "2"), ("1",))
    assert np.array_equal(found["x"], np.stack([a, c], 1))
    assert np.array_equal(read_variables(tmp_path / "two.npy")["y"][:, 0], b)
    for kind in ("csv", "parquet"):
        found = read_variables(tmp_path / f"v.{kind}", ("x", "b"))
        np.testing.assert_allclose(found["x"], np.stack([a, b], 1))
        assert found["y"][:, 0].tolist() == [0, 1, 1, 0, 2]
        assert found["y"].dtype.kind == "i"
    found = read_variables(mnist)
    assert np.array_equal(found["x"], IMAGES)
    assert np.array_equal(found["y"], LABELS)


@pytest.mark.parametrize(
    ("name", "between"), [("a.csv", ";"), ("a.tsv", "\t"), ("a.CSV", ","), ("a.csv", "|"), ("a.csv", ", ")]
)
def test_what_separates_the_cells_of_a_table_is_told_by_its_names(tmp_path, name, between):
    rows = (("first col", "age", "note"), ("1.5", "2", "b"), ("3.5", "4", "c"))
    (tmp_path / name).write_text("".join(f"{between.join(row)}\n" for row in rows))
    found = read_variables(tmp_path / name, ("first col",), ("age",))
    assert found["x"].tolist() == [[1.5], [3.5]]
    assert found["y"].tolist() == [[2], [4]]
    with pytest.raises(ValueError, match="columns note hold text; expected numbers"):
        read_variables(tmp_path / name, ("note",), ("age",))


def test_pictures_in_parquet_are_variables(parquet):
    found = read_variables(parquet)
    assert np.array_equal(found["x"], IMAGES)
    assert np.array_equal(found["y"], LABELS)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("v.npz", {"y": ("z",)}, "no array 'z'"),
        ("v.npz", {"y": ("x", "w")}, "an array is one variable"),
        ("pickled.npz", {}, "cannot be used"),
        ("pickled.npy", {}, "cannot be used"),
        ("broken.npz", {}, "cannot be used"),
        ("v.npy", {}, "numbers of columns from 0 to 2"),
        ("v.npy", {"x": ("0",), "y": ("7",)}, "numbers of columns from 0 to 2"),
        ("v.csv", {}, "expected 'y' among them"),
        ("v.csv", {"y": ("name",)}, "expected numbers"),
        ("broken.parquet", {}, "cannot be read as parquet"),
    ],
)
def test_bad_variables_are_said(tmp_path, name, options, says):
    np.savez(tmp_path / "v.npz", x=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object), y=np.zeros(1))
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps([1.0]))
    np.save(tmp_path / "v.npy", np.zeros((4, 3)))
    (tmp_path / "broken.npz").write_bytes((tmp_path / "v.npz").read_bytes()[:40])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    pandas.DataFrame({"x": [1.0], "name": ["a"]}).to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(ValueError, match=says):
        read_variables(tmp_path / name, **options)
    with pytest.raises(FileNotFoundError):
        read_variables(tmp_path / "missing.npz")


def test_text_in_a_table_is_no_matter_for_its_numbers(tmp_path):
    """A byte order mark, as Notepad and Excel write it, and line separators inside of another column."""
    text = "x,y,name\n1.5,2.5,one\u2028two\n3.5,4.5,a\u0085b\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "v.csv").write_bytes(text.encode(encoding))
        variables = read_variables(tmp_path / "v.csv")
        assert variables["x"].tolist() == [[1.5], [3.5]]
        assert variables["y"].tolist() == [[2.5], [4.5]]


def test_messages_show_the_first_names_alone(tmp_path):
    wide = pandas.DataFrame(np.zeros((2, 3000)), columns=[f"column {k}" for k in range(3000)])
    wide.to_csv(tmp_path / "wide.csv", index=False)
    np.savez(tmp_path / "wide.npz", **{f"array {k}": np.zeros(2) for k in range(3000)})
    pandas.DataFrame({"x": [1.0], "y": ["z" * 100_000]}).to_csv(tmp_path / "text.csv", index=False)
    (tmp_path / "broken.csv").write_text("x,y\n" + '"' + "q" * 100_000)
    np.save(tmp_path / "v.npy", np.zeros((4, 3)))
    for name, options in (
        ("wide.csv", {}),
        ("wide.npz", {}),
        ("text.csv", {}),
        ("broken.csv", {}),
        ("wide.csv", {"x": ["n" * 100_000]}),
        ("v.npy", {"x": ["n" * 100_000]}),
        ("wide.npz", {"x": ["n" * 100_000]}),
    ):
        with pytest.raises(ValueError, match=r"expected|cannot be") as refused:
            read_variables(tmp_path / name, **options)
        assert len(str(refused.value).replace(str(tmp_path), "")) < 400


# ---- the commands ----


def test_train_denoiser_on_pictures_and_labels(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    np.savez(
        tmp_path / "v.npz",
        x=(rng.integers(0, 60, (200, 6, 6)) + 120 * labels[:, None, None]).astype(np.uint8),
        y=labels,
    )
    small = ["--steps", 2, "--batch", 4, "--check-every", 1, "--levels", 3, "--width", 8, "--width", 8]
    answered("train", tmp_path / "v.npz", "--output", tmp_path / "out", *small)
    assert "I(y; x)" in capsys.readouterr().out
    model = FittedModel.load(tmp_path / "out" / "model.safetensors")
    assert (model.diffused, model.given) == ("y", ("x",))
    found = Estimate.load(tmp_path / "out" / "estimate.safetensors")
    assert len(found) == 40
    assert (found.settings["fit"]["draws"], found.settings["fit"]["weighting"]) == (8, "v")


def test_train_denoiser_on_a_table(tmp_path, capsys):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 400))
    table = pandas.DataFrame({"a": a, "b": b, "c": a + b + 0.5 * rng.standard_normal(400)})
    table.to_csv(tmp_path / "v.csv", index=False)
    small = ["--steps", 2, "--batch", 8, "--check-every", 1, "--levels", 16, "--width", 8]
    names = ["--x", "a,b", "--y", "c"]
    answered("train", tmp_path / "v.csv", *names, "--output", tmp_path / "out", *small)
    assert "I(y; x)" in capsys.readouterr().out
    value, stderr = Estimate.load(tmp_path / "out" / "estimate.safetensors").mean()
    assert abs(value - 0.5 * np.log(2.25 / 0.25)) < 4 * stderr < 0.8


def test_train_denoiser_goes_on_with_its_own_data_alone(tmp_path, capsys):
    for name, rho in (("strong", 0.95), ("weak", 0.05)):
        rng = np.random.default_rng(0)
        x, noise = rng.standard_normal((2, 400, 1))
        np.savez(tmp_path / f"{name}.npz", x=x, y=rho * x + np.sqrt(1 - rho**2) * noise)
    small = ["--steps", 2, "--batch", 8, "--check-every", 1, "--levels", 4, "--width", 8, "--output", tmp_path / "out"]
    answered("train", tmp_path / "strong.npz", *small)
    first = capsys.readouterr().out
    answered("train", tmp_path / "strong.npz", *small)
    again = capsys.readouterr().out
    assert again.startswith("going on from ")
    assert again.split("\n", 1)[1] == first
    assert "other settings or data (data: " in refused("train", tmp_path / "weak.npz", *small)
    said = refused("train", tmp_path / "strong.npz", *small, "--test-share", 0.5)
    assert "other settings or data (test_share: 0.2 there, 0.5 now" in said


def test_estimate_of_a_table(tmp_path):
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 2000))
    pandas.DataFrame({"x": x, "y": 0.8 * x + 0.6 * noise}).to_csv(tmp_path / "v.csv", index=False)
    said = answered("arrays", tmp_path / "v.csv", "--output", tmp_path / "out")
    estimate = Estimate.load(tmp_path / "out" / "estimate.safetensors")
    value, stderr = estimate.mean()
    assert abs(value + 0.5 * np.log(1 - 0.64)) < 4 * stderr < 0.3
    assert str(estimate.mean()) in said
    expected = estimate_mi(x, 0.8 * x + 0.6 * noise)
    assert torch.equal(estimate.nats, expected.nats)


def test_train_denoiser_needs_pairs_for_every_part(tmp_path):
    np.savez(tmp_path / "v.npz", x=np.arange(5.0), y=np.arange(5.0))
    said = refused("train", tmp_path / "v.npz", "--output", tmp_path / "out")
    assert "5 pairs leave none for watched" in said
