"""What measurements are good for: words, pairs of captions, retrieval, and the best of several drawn images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmg_diffusers.analysis.by_word import Words
from mmg_diffusers.analysis.preference import Preference
from mmg_diffusers.analysis.ranking import Funnel, Ranked
from mmg_diffusers.analysis.selection import INFORMATION, Score, Selected, scored
from mmg_diffusers.checks import of_type, shown, whole
from mmg_diffusers.measure.value import repeated
from mmg_diffusers.measure.verdict import Finding
from mmg_diffusers.pairs.marginals import Candidates, Marginal, NullPrompt
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pairs.prompts import Prompt, Word, check_text
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.drawing import draw
from mmg_diffusers.pipelines.encoding import ids_for, one_each
from mmg_diffusers.pipelines.piloting import NULL, PilotingModel
from mmg_diffusers.pipelines.retrieval import rank, short_paths
from mmg_diffusers.pipelines.sampling import SamplerLevels
from mmg_diffusers.pipelines.watching import Calls, Watch
from mmg_diffusers.pipelines.wording import Asked, read_words

if TYPE_CHECKING:
    from typing_extensions import Unpack


FUNNEL = Funnel()

# Measured by scripts/measure_uses.py --protocol selection.
_BY_NULL = Finding(
    "the null prompt chose hardly better than chance, or worse, where the truth is known: choose by score=Candidates([...])",
    "null alone",
)


class UsingModel(PilotingModel):
    """A pipeline that puts its measurements to use."""

    def compare(
        self,
        images: VideoLike | Sequence[VideoLike],
        a: Prompt | Sequence[Prompt],
        b: Prompt | Sequence[Prompt],
        *,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Preference:
        """Which of two captions fits each image better: log p(image | a) - log p(image | b), in nats.

        Both captions see the same noise, along paths from noisy to clean, so that what they share cancels. There are two paths
        at least (``draws=2``), for the standard error. No null prompt is needed, and none of the captions has to be true.

        Args:
            images, plan, pair_ids: as in ``pipe(images, prompts)``. The plan is that of candidates: ``levels=`` are steps of the path.
                ``keep="pixel"`` keeps maps of the difference, at the image's size.
            a, b: captions, one for each image, or one for all; an image's two have to differ.

        Raises:
            ValueError: for captions of an image that are the same, and as ``pipe(images, prompts)`` does.
        """
        chosen = Plan.of(plan, **options)
        chosen = replace(chosen, draws=max(2, chosen.draws))
        chosen.path()
        with self.ready() as bench:
            pictures = bench.encoder.check_images(images, chosen.resize)
            noun = bench.encoder.codec.medium.noun
            one, other = (one_each(texts, len(pictures), name, noun) for texts, name in ((a, "a"), (b, "b")))
            for place, (first, second) in enumerate(zip(one, other, strict=True)):
                if first == second:
                    raise ValueError(
                        f"both captions of {noun} {place} are {shown(str(first))}; expected two that differ"
                    )
            ids = ids_for(pair_ids, len(pictures))
            said = bench.encoder.check_prompts([*one, *other])
            parts, settings, remarks = bench.one_over_other(list(pictures), ids, one, other, chosen)
        maps = torch.cat([part.maps for part in parts])
        kept = None
        if chosen.keep != "pair":
            kept = self.spread(maps.flatten(0, 1), images, chosen.resize).unflatten(0, maps.shape[:2])
        note = repeated(pictures.digests, noun)
        return Preference(
            tuple(map(str, one)),
            tuple(map(str, other)),
            torch.cat([part.score for part in parts]),
            parts[0].logsnr,
            ids,
            sum(part.evaluations for part in parts),
            kept,
            settings,
            notes=(*remarks, *pictures.notes, *said, *([] if note is None else [note])),
        )

    def words(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: str | Sequence[str],
        *,
        words: Sequence[str | Word] | None = None,
        marginal: Marginal | Sequence[Marginal] = NULL,
        mask: str | None = None,
        together: bool = False,
        maps: bool = True,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Words:
        """What each word of each prompt says about its image, given the rest of the prompt: i(image; word | rest).

        With the null prompt as the marginal a word is taken out, and the prompt without it is the context: one measurement a
        word, whose verdict says whether the network takes what is left for a prompt. Among candidates a word is held against what
        else could stand in its place, a bound whatever the network's errors, along two noise paths at least.

        Args:
            images, plan, pair_ids: as in ``pipe(images, prompts)``.
            prompts: one for each image, or one for all.
            words: which, by text or by place (``"@2"``); by default all, or all in which the candidates differ.
            marginal: the null prompt; `Candidates` that differ word by word, or that `Candidates.vary` made; or a list of them, one for
                each image.
            mask: with the null prompt, what takes the place of a word; nothing (``""``) leaves it out. Masked by default, so that the
                other tokens keep their places.
            together: whether every two words are read as well, for their interaction, and among candidates its split into redundancy,
                uniqueness and synergy.
            maps: whether each word's map is kept, at the image's size, of the same evaluations. With the null prompt it adds up to the
                word's nats; among candidates it is the orthogonal form's.

        Raises:
            ValueError: for words that prompts do not have, prompts that are not among the candidates, and as ``pipe(images, prompts)``
                does.
        """
        chosen = Plan.of(plan, **options)
        pictures = self.codec.medium.as_list(images)
        texts = one_each(prompts, len(pictures), "prompts", self.codec.medium.noun)
        for place, text in enumerate(texts):
            check_text(text, f"prompts[{place}]")
        if not isinstance(marginal, NullPrompt):
            chosen = replace(chosen, draws=max(2, chosen.draws))
        ids = ids_for(pair_ids, len(pictures)).tolist()
        return read_words(Asked(self, pictures, texts, ids, chosen, maps, together), words, marginal, mask)

    def rank(
        self,
        images: VideoLike | Sequence[VideoLike],
        captions: Sequence[str],
        *,
        prior: Sequence[float] | None = None,
        funnel: Funnel = FUNNEL,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Ranked:
        """Rank captions for each image: their posterior, with most of them left behind after a few noise levels.

        `classify` follows all captions along the whole path; this follows a few of them, see `Ranked.evaluations` and `Ranked.of`.

        Args:
            images, plan, pair_ids: as in ``pipe(images, prompts)``.
            captions: K different ones.
            prior: their probabilities, uniform by default.
            funnel: which are left behind.

        Raises:
            ValueError: for a funnel that does not fit the path, and as `classify` does.
        """
        chosen, among = Plan.of(plan, **options), Candidates(captions, prior)
        of_type(funnel, Funnel, "funnel", "a Funnel(...)")
        chosen.path()
        with self.ready() as bench:
            _ = short_paths(bench, chosen, funnel)
            pictures = bench.encoder.check_images(images, chosen.resize)
            notes = (*pictures.notes, *bench.encoder.check_prompts(among.prompts))
            made = rank(bench, list(pictures), ids_for(pair_ids, len(pictures)), among, chosen, funnel)
        return replace(made, notes=(*made.notes, *notes))

    def select(
        self,
        prompts: Sequence[str],
        n: int,
        *,
        score: Marginal | Score | None = None,
        steps: int = 50,
        guidance: float = 1.0,
        plan: Plan | None = None,
        **options: Unpack[Options],
    ) -> Selected:
        """Draw n images for each prompt, and choose the one of which the prompt says most: i(image; prompt).

        Args:
            prompts: P of them.
            n: images a prompt, at least two.
            score: what the information is measured against: `Candidates` (log q), all prompts among them, or the null prompt; or a
                function of images and prompts that gives a number for each image. By default the prompts are each other's candidates.
            steps, guidance: of drawing, as in `mmg_diffusers.draw`.
            plan: how images are scored, as in ``pipe(images, prompts)``. Its seed names the noise of drawing too.

        Raises:
            TypeError, ValueError: for a score that is none, and as drawing and measuring do.
        """
        chosen = Plan.of(plan, **options)
        whole(n, "n", 2)
        if isinstance(prompts, str) or not isinstance(prompts, Sequence) or not prompts:
            raise TypeError(f"the prompts are {shown(prompts)}; expected a list of at least one")
        for place, prompt in enumerate(prompts):
            check_text(prompt, f"prompts[{place}]")
        if score is None:
            others = list(dict.fromkeys(prompts))
            if len(others) < 2:
                raise ValueError(
                    f"score is not given, and {shown(others[0])} has no other prompts beside it to be told from; pass score=Candidates([...]), "
                    "itself among texts that differ from it in what matters"
                )
            score = Candidates(others)
        if not isinstance(score, Marginal) and not callable(score):
            raise TypeError(
                f"score is {shown(score)}; expected NullPrompt(), Candidates(...) or a function of images and prompts"
            )
        texts = [text for text in prompts for _ in range(n)]
        if isinstance(score, Candidates):
            score.mixture(list(prompts), torch.arange(len(prompts)))
        calls = Calls(self.family.networks())
        with calls:
            drawn = draw(self, texts, steps=steps, guidance=guidance, seed=chosen.seed)
        images = list(drawn.images)
        error = torch.full((len(texts),), torch.nan, dtype=torch.float64)
        rows = 0
        if isinstance(score, Marginal):
            found = self.measure(images, texts, None, score, chosen)
            values, error, rows, by = found.nats, found.stderr, found.evaluations, f"{INFORMATION}, {score.label}"
            notes, settings = (*drawn.notes, *found.notes), dict(found.settings)
            if isinstance(score, NullPrompt):
                notes = (*notes, _BY_NULL)
        else:
            values, by = scored(score, images, texts), getattr(score, "__name__", type(score).__name__)
            notes, settings = drawn.notes, {"model": str(self._source["model"])}
        shape = (len(prompts), n)
        return Selected(
            tuple(prompts),
            torch.from_numpy(drawn.images).unflatten(0, shape),
            values.reshape(shape),
            error.reshape(shape),
            calls.rows,
            rows,
            by,
            settings | {"sampling_steps": steps, "guidance": guidance},
            notes=notes,
        )

    def watch(self) -> Watch:
        """Record what guidance's two branches differ by while the pipeline draws, at no extra call; see `Watch`.

        ``with pipe.watch() as seen: images = pipe.pipe(prompts, guidance_scale=5.0).images``, then ``seen.read()``.
        """
        return Watch(self.family)

    @property
    def sampler(self) -> SamplerLevels:
        """The levels that the pipeline's own scheduler visits: ``pipe.sampler(50)`` in 50 steps."""
        return SamplerLevels(self.pipe.scheduler, getattr(self.codec, "tokens", None), self.family.name)

    def spread(self, maps: Tensor, images: VideoLike | Sequence[VideoLike], resized: bool = False) -> Tensor:
        """Maps of latents `(N, *pixels)` on the pixels of images that all have the size of the first; sums are kept."""
        medium = self.codec.medium
        *frames, _, height, width = medium.read(medium.as_list(images)[0]).pixels.shape
        return medium.spread(maps, (*frames, *(self.codec.native_size if resized else (height, width))))
