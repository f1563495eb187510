"""Words are masked in every text encoder of every family, and nothing else of the prompt is."""

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import BatchEncoding, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from mmg_diffusers import Masked, MMGPipeline
from mmg_diffusers.pairs.prompts import find_word
from mmg_diffusers.pipelines.adapters.masking import Marks, places_of
from tests.pipelines.families import flux, parity, pixart, stable_diffusion, stable_diffusion_xl
from tests.pipelines.families.table import ROWS
from tests.pipelines.families.test_families import pictures, pipeline

WITH_TEXT = [row for row in ROWS if not row.name.startswith("dit")]
each_row = pytest.mark.parametrize("row", WITH_TEXT, ids=lambda row: row.name)
# Of each family the first row: variants of one encode alike.
each_family = pytest.mark.parametrize(
    "row", {row.name.split("-")[0]: row for row in reversed(WITH_TEXT)}.values(), ids=lambda row: row.name
)
# The tokenizers of the table are of letters, and these two words share none at any place.
PROMPT, OTHER = "a large red dot, by it", "a large bog dot, by it"


@contextmanager
def reading(codec):
    """The tokens that every text encoder is given, with its mask of them, by the encoder's name."""
    given = {}

    def listen(name):
        def hear(module, args, options):
            ids = args[0] if args else options["input_ids"]
            mask = args[1] if len(args) > 1 else options.get("attention_mask")
            given.setdefault(name, []).append((ids.clone(), None if mask is None else mask.clone()))

        return hear

    encoders = {name: getattr(codec.pipe, name, None) for name in codec.encoders}
    hooks = [
        encoder.register_forward_pre_hook(listen(name), with_kwargs=True)
        for name, encoder in encoders.items()
        if encoder is not None
    ]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def tokens(codec: Any, prompt):
    """What the encoders are given last of a prompt, and the condition that they make."""
    with reading(codec) as given:
        masked = isinstance(prompt, Masked)
        condition = codec.encode_masked(prompt) if masked else codec.encode_prompts([prompt])
    return {name: calls[-1] for name, calls in given.items()}, condition


@each_row
def test_a_masked_word_loses_its_tokens_and_no_others(row):
    codec = parity.model_of(row, pipeline(row.name)).codec
    (whole, full), (other, _) = tokens(codec, PROMPT), tokens(codec, OTHER)
    (masked, condition), (same, _) = (
        tokens(codec, Masked(text, word)) for text, word in ((PROMPT, "red"), (OTHER, "bog"))
    )
    assert masked.keys() == whole.keys() == {name for name in codec.encoders if getattr(codec.pipe, name) is not None}
    for name, (ids, mask) in masked.items():
        before, word = whole[name][0], whole[name][0] != other[name][0]
        assert ids.shape == before.shape
        assert 1 <= int(word.sum()) <= 3
        assert torch.equal(ids, same[name][0]), f"{name}: the mask tells what it hides"
        assert torch.equal(ids[~word], before[~word]), f"{name}: another token is masked or moved"
        assert len(ids[word].unique()) == 1
        # What is filled up and what is text is as before.
        assert mask is None or torch.equal(mask, whole[name][1])
    assert condition.keys() == full.keys()
    assert all(value.shape == full[name].shape for name, value in condition.items())
    assert any(not torch.equal(value, full[name]) for name, value in condition.items())


@each_family
def test_tokenizers_are_given_what_the_codec_says(row, monkeypatch):
    codec = parity.model_of(row, pipeline(row.name)).codec
    prompt = row.prompts[0]
    said = {name: codec.tokenized(prompt, name) for name in codec.limits()}
    heard = {name: [] for name in said}
    for name in said:
        tokenizer = getattr(codec.pipe, name)
        kind = type(tokenizer)

        def listen(self, text, *args, _own=kind.__call__, _kind=kind, **options):
            for each, texts in heard.items():
                if getattr(codec.pipe, each) is self:
                    texts.extend([text] if isinstance(text, str) else text)
            return _own(self, text, *args, **options)

        # One of a kind: two tokenizers of a pipeline may have one class.
        if not hasattr(kind.__call__, "heard"):
            listen.heard = True
            monkeypatch.setattr(kind, "__call__", listen)
    codec.encode_prompts([prompt])
    for name, texts in heard.items():
        assert texts
        assert all(text.startswith(said[name]) for text in texts), f"{name} was given {texts[0]!r}"
    # How it is written makes a difference to a mask where it makes one to the prompt.
    marked = [codec.encode_masked(Masked(text, word)) for text, word in (("a Red dot ", "Red"), ("a red dot", "red"))]
    if codec.rewritten("a Red dot ") == codec.rewritten("a red dot"):
        assert all(torch.equal(marked[0][name], value) for name, value in marked[1].items())


@each_family
def test_masking_leaves_the_pipeline_as_it_is(row):
    pipe = row.build()
    codec = parity.model_of(row, pipe).codec
    parts, config = dict(pipe.components), dict(pipe.config)
    codec.encode_masked(Masked(PROMPT, "red"))
    assert dict(pipe.config) == config
    assert all(getattr(pipe, name) is part for name, part in parts.items())


@each_family
def test_what_is_said_to_be_cut_is_what_no_encoder_sees(row):
    codec = parity.model_of(row, pipeline(row.name)).codec
    words = ["a"] * (max(codec.limits().values()) + 8)
    lost = codec.truncated(" ".join(words))
    assert lost is not None
    first = len(words) - lost.count("a")
    whole, unseen, seen = (
        codec.encode_prompts([" ".join([*words[:k], letter, *words[k + 1 :]])])
        for k, letter in ((first, "a"), (first, "b"), (first - 1, "b"))
    )
    assert all(torch.equal(value, whole[name]) for name, value in unseen.items())
    assert any(not torch.equal(value, whole[name]) for name, value in seen.items())


@pytest.mark.parametrize("name", ["sdxl-zeros-euler", "flux-dedistilled", "z-image", "cogview4"])
def test_a_word_is_measured_given_the_rest(name):
    row = next(row for row in ROWS if row.name == name)
    model = parity.model_of(row, pipeline(name))
    images = pictures(row, model)
    given: list[Any] = [Masked(PROMPT, "red"), Masked(OTHER, "bog")]
    out = model(images, [PROMPT, OTHER], given=given, levels=2)
    assert (out.nats != 0).all()
    assert out.settings["given"] == "the prompt with words masked"
    # The two contexts are one and the same, and say nothing beyond each other.
    assert model(images, given, given=given[::-1], levels=2).nats.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("row", [row for row in ROWS if row.name.startswith("dit")], ids=lambda row: row.name)
def test_classes_have_no_words_to_mask(row):
    codec = parity.model_of(row, pipeline(row.name)).codec
    with pytest.raises(ValueError, match="'207' names a class, of which no word can be masked"):
        codec.encode_masked(Masked("207", "207"))


@pytest.mark.parametrize("name", ["sd3", "flux-dedistilled", "hidream-unipc", "sdxl-empty"])
def test_a_pooled_state_is_read_at_the_end_of_a_masked_prompt(name):
    """And not at the masked word, where CLIP's own padding would be taken for the token that closes a text."""
    row = next(row for row in ROWS if row.name == name)
    codec = parity.model_of(row, pipeline(name)).codec
    masked, _ = tokens(codec, Masked(PROMPT, "red"))
    whole, _ = tokens(codec, PROMPT)
    ends = [
        [int((ids[0] == getattr(codec.pipe, codec.encoders[part]).eos_token_id).int().argmax()) for ids in each]
        for part in whole
        if "CLIP" in type(getattr(codec.pipe, part)).__name__
        for each in ([whole[part][0], masked[part][0]],)
    ]
    assert ends
    assert all(before == after for before, after in ends)


# ---- tokens of textual inversion ----


def inverted(pipe, vectors=3):
    """A pipeline that knows <cat>, of some vectors, in each of its CLIP encoders."""
    for encoder, tokenizer in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        part = getattr(pipe, encoder, None)
        if part is not None and "CLIP" in type(part).__name__:
            width = part.get_input_embeddings().embedding_dim
            learned = torch.randn(vectors, width, generator=torch.Generator().manual_seed(0))
            pipe.load_textual_inversion(
                {"<cat>": learned}, token="<cat>", text_encoder=part, tokenizer=getattr(pipe, tokenizer)
            )
    return pipe


@pytest.mark.parametrize(
    "build",
    [stable_diffusion.pipeline(stable_diffusion.ddim), stable_diffusion_xl.pipeline(), flux.pipeline(**flux.DYNAMIC)],
    ids=["sd", "sdxl", "flux"],
)
@pytest.mark.parametrize("word", ["<cat>", "cat"])
def test_all_vectors_of_an_inverted_token_are_masked(build, word):
    codec: Any = MMGPipeline(inverted(build())).codec
    prompt = "a red <cat> by it"
    (whole, _), (cat, _), (after, _) = (
        tokens(codec, each) for each in (prompt, Masked(prompt, word), Masked(prompt, "by"))
    )
    inversions = 0
    for name in whole:
        tokenizer = getattr(codec.pipe, codec.encoders[name])
        ids, known = whole[name][0], tokenizer.get_added_vocab()
        vectors = torch.tensor([known[each] for each in ("<cat>", "<cat>_1", "<cat>_2") if each in known])
        if not len(vectors):
            continue
        inversions += 1
        places = torch.isin(ids, vectors)
        assert int(places.sum()) == 3
        assert torch.equal(cat[name][0] != ids, places)
        # The word after them stands three tokens later than it would with one vector.
        start = int(places[0].nonzero().max()) + 1
        changed = (after[name][0] != ids)[0].nonzero()[:, 0].tolist()
        assert changed == [start, start + 1]
    assert inversions == sum("CLIP" in type(getattr(codec.pipe, name)).__name__ for name in whole)


def test_what_is_cut_counts_the_vectors_of_inverted_tokens():
    codec = MMGPipeline(inverted(stable_diffusion.pipeline(stable_diffusion.ddim)(), vectors=70)).codec
    # 70 vectors and five letters, between the tokens that open and close a text, are the 77 that there may be.
    assert codec.truncated("a <cat> on it") is None
    assert codec.truncated("a <cat> on ito") == "o"
    with pytest.raises(ValueError, match="does not see 'ito'"):
        codec.check_masked(Masked("a <cat> on ito", "ito"))


# ---- what cannot be followed ----


def test_a_word_that_the_pipeline_rewrites_is_refused(monkeypatch):
    codec = MMGPipeline(pixart.ROWS[0].build()).codec
    monkeypatch.setattr(
        type(codec), "rewritten", lambda self, prompt: prompt.replace("http://a.b", "").replace("red dot", "blot")
    )
    for prompt, word in (("see http://a.b", "http"), ("a red dot", "dot")):
        with pytest.raises(ValueError, match="when the pipeline rewrites the prompt"):
            codec.check_masked(Masked(prompt, word))


def test_marks_are_characters_that_the_text_does_not_have():
    text = f"a {chr(0xFDD0)} red dot"
    marks = Marks(Masked(text, "red"))
    assert chr(0xFDD0) not in (marks.opening, marks.closing)
    assert marks.off(marks.text) == text
    assert [text[slice(*span)] for span in marks.read(marks.text)] == ["red"]
    full = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    with pytest.raises(ValueError, match="full of characters that stand for none"):
        Marks(Masked(f"a {full} dot", "dot"))


def test_words_that_overlap_are_masked_together():
    marks = Marks(Masked(Masked(Masked("a red dot on it", "red dot"), "red"), "on"))
    assert marks.words == ["red dot", "on"]
    assert marks.read(marks.text) == [(2, 9), (10, 12)]


# ---- tokens of more than a letter ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a red dot", ["Ġred"]), ("a/red dot", ["/red"]), ("a\nred dot", ["red"]), ("red dot", ["red"])],
)
def test_a_token_that_holds_a_part_of_the_word_is_masked(text, expected):
    merges: Any = [("r", "e"), ("re", "d"), ("Ġ", "red"), ("/", "red")]
    letters = [*bytes_to_unicode().values(), *("".join(pair) for pair in merges)]
    tokenizer = Qwen2Tokenizer(vocab={letter: k for k, letter in enumerate(letters)}, merges=merges)
    batch = tokenizer([text])
    (places,) = places_of(tokenizer, batch, 0, text, [find_word(text, "red")])
    assert tokenizer.convert_ids_to_tokens([batch.input_ids[0][k] for k in places]) == expected


class Slow:
    """A tokenizer of what stands between spaces, which doesn't tell the characters of its tokens."""

    def __init__(self, words):
        self.words = words

    def __call__(self, text, **options):
        return BatchEncoding({"input_ids": [self.words.index(word) for word in text.split()]})

    def decode(self, ids):
        return self.words[ids[0]]


def test_a_token_that_goes_on_after_the_word_is_refused_if_it_cannot_be_told():
    tokenizer: Any = Slow(["a", "red", "dot", "dot,", "here"])
    text = "a red dot, here"
    batch = tokenizer(text)
    assert places_of(tokenizer, batch, 0, text, [find_word(text, word) for word in ("red", "here")]) == [[1], [3]]
    with pytest.raises(ValueError, match="cannot tell the tokens of 'dot' in 'a red dot, here' from those after it"):
        places_of(tokenizer, batch, 0, text, [find_word(text, "dot")])
