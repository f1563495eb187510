"""Classes are prompts by number, as numbers or as text, or by name: in Python, tables and data sets alike."""

import pickle

import datasets
import numpy as np
import pandas
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from mmg_diffusers import Candidates, MMGPipeline, Negatives, Outcome
from mmg_diffusers.pairs.classes import ClassNumber
from mmg_diffusers.pairs.tables import read_candidates, read_pairs
from mmg_diffusers.pipelines.drawing import draw
from tests.pipelines.families import dit, stable_diffusion, test_unet2d


def quiet(model):
    model.set_progress_bar_config(disable=True)
    return model


@pytest.fixture(scope="module")
def model():
    return quiet(MMGPipeline(dit.pipeline(lambda: DDIMScheduler(clip_sample=False))()))


@pytest.fixture(scope="module")
def images():
    return list(np.random.default_rng(0).random((3, 16, 16, 3), dtype=np.float32))


def pictures(folder, images):
    for k, image in enumerate(images):
        Image.fromarray((255 * image).astype(np.uint8)).save(folder / f"{k}.png")
    return [f"{k}.png" for k in range(len(images))]


LABELS = [207, 1, 3]
TEXTS = ["207", "goldfish", "3"]


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        tuple(LABELS),
        np.array(LABELS),
        np.array(LABELS, np.uint16),
        torch.tensor(LABELS),
        [np.int64(207), torch.tensor(1), "3"],
        ["207", 1, np.array(3)],
    ],
    ids=["list", "tuple", "array", "uint16", "tensor", "numpy's", "text among them"],
)
def test_numbers_are_classes(model, images, labels):
    told = model(images, TEXTS, levels=2)
    assert torch.equal(model(images, labels, levels=2).nats, told.nats)
    one = model(images, 1, levels=2).nats
    assert torch.equal(one, model(images, "goldfish", levels=2).nats)
    assert not torch.equal(one, told.nats)


def test_numbers_are_candidates_contexts_and_negatives(model, images):
    def same(one, other):
        assert torch.equal(one.nats, other.nats)

    same(
        model(images, LABELS, given=[1, 1, 2], levels=2),
        model(images, TEXTS, given=["goldfish", "1", "2"], levels=2),
    )
    among = Candidates([1, 3, np.int32(207)], prior=[0.5, 0.25, 0.25])
    assert among.prompts == ("1", "3", "207")
    same(model.filter(images, [207, 1, 3], among, levels=4), model.filter(images, ["207", "1", "3"], among, levels=4))
    same(model(images, LABELS, marginal=Negatives(2), levels=4), model(images, TEXTS, marginal=Negatives(2), levels=4))
    found = model.classify(images, torch.tensor([1, 3, 207]), levels=4)
    assert found.candidates == ("1", "3", "207")
    assert torch.equal(found.log_posterior, model.classify(images, ["1", "3", "207"], levels=4).log_posterior)


def test_a_number_that_may_be_a_place_or_a_name_is_refused(model, images):
    found = model.classify(images, [1, 0, 207], levels=4)
    with pytest.raises(ValueError, match='0 is the name of the candidate at place 1; give names as text, "0"'):
        found.pointwise([2, 0, 1])
    with pytest.raises(ValueError, match="207 is the name of the candidate at place 2"):
        found.bound([207, 207, 207])
    assert torch.equal(found.pointwise(["1", "0", "207"]), found.pointwise([*map(ClassNumber, (1, 0, 207))]))
    # Places that are no name of another stay places.
    plain = model.classify(images, [0, 1, 207], levels=4)
    assert torch.equal(plain.pointwise([0, 1, 2]), plain.pointwise(["0", "1", "207"]))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            1000,
            ValueError,
            r"'1000' is no class of this model; expected a number from 0 to 999, or one of 4 names \(Tinca tinca",
        ),
        ([1, -1, 3], ValueError, "the number of a class is -1; expected at least 0"),
        (True, TypeError, "prompts is a bool; expected text"),
        ([1, np.True_, 3], TypeError, r"prompts\[1\] is a bool.*; expected text"),
        (207.0, TypeError, "prompts is a float; expected text"),
        (torch.tensor([1.0, 2.0, 3.0]), TypeError, "prompts is a Tensor; expected text.*whole number"),
        (torch.tensor([True, False, True]), TypeError, "prompts is a Tensor; expected text"),
        (torch.tensor([[1, 2, 3]]), TypeError, "prompts is a Tensor; expected text"),
        ([1, 2], ValueError, "got 2 prompts for 3 images"),
    ],
)
def test_what_is_no_class_is_refused(model, images, labels, error, message):
    with pytest.raises(error, match=message):
        model(images, labels, levels=2)


def test_two_names_of_one_class_are_not_compared(model, images):
    for among in (["1", "goldfish"], [0, "tench, Tinca tinca"], ["01", 1]):
        with pytest.raises(ValueError, match=r"are one class of this model.*call it the same everywhere"):
            model.classify(images, among, levels=2)
    with pytest.raises(ValueError, match="'goldfish' and '1' are one class"):
        model(images, ["goldfish", "1", "3"], marginal=Negatives(2), levels=2)
    with pytest.raises(ValueError, match="'1' appears more than once"):
        Candidates([1, "1"])
    # Against the null prompt they may be called as one likes.
    one, other, _ = model(images, ["goldfish", "1", "3"], levels=2).nats
    assert one != other


def test_a_model_of_text_takes_no_numbers(images):
    text = quiet(MMGPipeline(stable_diffusion.pipeline(stable_diffusion.ddim)()))
    with pytest.raises(TypeError, match="a prompt is the number 207, and this model is told text and no classes"):
        text(images, [207, 1, 3], levels=2)
    with pytest.raises(TypeError, match="a prompt is the number 1,"):
        text.classify(images, [1, 2], levels=2)
    assert text(images, "207", levels=2).nats.shape == (3,)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_tables_hold_classes(tmp_path, model, images, ending):
    table = pandas.DataFrame({"file_name": pictures(tmp_path, images), "label": LABELS})
    path = tmp_path / f"metadata.{ending}"
    match ending:
        case "csv":
            table.to_csv(path, index=False)
        case "jsonl":
            table.to_json(path, orient="records", lines=True)
        case _:
            table.to_parquet(path)
    pairs = read_pairs(path)
    assert pairs.prompts == ["207", "1", "3"]
    assert all(isinstance(prompt, ClassNumber) for prompt in pairs.prompts)
    measured = model(pairs.images, pairs.prompts, levels=2)
    done = model.run(path, tmp_path / "run", levels=2, progress=False)
    assert torch.equal(done.estimate.nats, measured.nats)
    assert done.to_pandas()["prompt"].tolist() == ["207", "1", "3"]
    assert Outcome.load(tmp_path / "run").to_pandas()["prompt"].tolist() == ["207", "1", "3"]


def test_tables_of_candidates_hold_classes(tmp_path):
    pandas.DataFrame({"prompt": [3, 207], "prior": [0.25, 0.75]}).to_parquet(tmp_path / "a.parquet")
    among = read_candidates(tmp_path / "a.parquet")
    assert among.prompts == ("3", "207")
    assert all(isinstance(prompt, ClassNumber) for prompt in among.prompts)
    (tmp_path / "b.jsonl").write_text('{"prompt": true}\n{"prompt": 1}\n')
    with pytest.raises(ValueError, match="row 0 has True in column 'prompt'; expected text, or the number of a class"):
        read_candidates(tmp_path / "b.jsonl")


def rows(images, labels, feature):
    held = [Image.fromarray((255 * image).astype(np.uint8)) for image in images]
    kinds = datasets.Features({"image": datasets.Image(), "label": feature})
    return datasets.Dataset.from_dict({"image": held, "label": labels}, features=kinds)


def test_data_sets_hold_classes(tmp_path, model, images):
    held = [Image.fromarray((255 * image).astype(np.uint8)) for image in images]
    expected = model(held, [2, 1, 0], levels=2).nats
    names = datasets.ClassLabel(names=["tench, Tinca tinca", "goldfish", "other"])
    nameless = quiet(MMGPipeline(dit.pipeline(lambda: DDIMScheduler(clip_sample=False))()))
    nameless.pipe.labels = {}
    for k, (who, feature) in enumerate(((model, datasets.Value("int64")), (nameless, names))):
        done = who.run(rows(images, [2, 1, 0], feature), tmp_path / str(k), levels=2, progress=False)
        assert not done.failures
        assert torch.equal(done.estimate.nats, expected)
    # What the data set calls a class is held against what the model calls it.
    done = model.run(rows(images, [2, 1, 0], names), tmp_path / "named", levels=2, progress=False)
    assert [failure.place for failure in done.failures] == [0]
    assert "the data set calls its class 2 'other', and this model has no name for its own" in done.failures[0].reason
    streamed = rows(images, [0, 1, 1], names).to_iterable_dataset()
    done = model.run(streamed, tmp_path / "streamed", levels=2, progress=False, marginal=Negatives(2))
    assert not done.failures


def test_a_class_of_a_data_set_is_not_taken_for_another_of_the_model(tmp_path, model, images):
    pets = rows(images, [0, 1, 0], datasets.ClassLabel(names=["cat", "dog"]))
    done = model.run(pets, tmp_path / "run", levels=2, progress=False)
    assert len(done.failures) == 3
    assert (
        "the data set calls its class 0 'cat', and this model calls its own 'Tinca tinca, tench'"
        in done.failures[0].reason
    )


def test_one_class_for_all_of_a_run(tmp_path, model, images):
    held = [{"image": image} for image in images]
    done = model.run(held, tmp_path / "run", prompt=207, levels=2, progress=False)
    assert torch.equal(done.estimate.nats, model(images, 207, levels=2).nats)


def test_images_of_classes_are_drawn(model):
    drawn = draw(model, ["1", ClassNumber(2)], steps=2)
    assert drawn.images.shape == (2, 16, 16, 3)
    alone = quiet(MMGPipeline(test_unet2d.pipeline()()))
    assert draw(alone, [""] * 3, steps=2).images.shape == (3, 8, 8, 3)
    with pytest.raises(ValueError, match="DDPMPipeline draws images of no class"):
        draw(quiet(MMGPipeline(test_unet2d.pipeline(num_class_embeds=5)())), ["1"], steps=2)


def test_encodings_of_classes_depend_on_the_models_names(tmp_path):
    one, other = (quiet(MMGPipeline(dit.pipeline(lambda: DDIMScheduler(clip_sample=False))())) for _ in range(2))
    other.pipe.labels = {"goldfish": 5}
    for each, number in ((one, 1), (other, 5)):
        each.set_encoding_cache(folder=tmp_path)
        assert each.encoder.condition(["goldfish"])["class_labels"].tolist() == [number]


def test_a_class_number_survives_a_copy():
    number = ClassNumber(np.int64(3), "cat")
    again = pickle.loads(pickle.dumps(number))
    assert (again, again.name, type(again)) == ("3", "cat", ClassNumber)
    assert number == "3"
