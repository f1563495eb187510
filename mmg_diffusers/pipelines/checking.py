"""A model that can be asked whether its network predicts what its configs say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mmg_diffusers.denoisers.selftest import SelfTest, self_test
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.encoding import one_each
from mmg_diffusers.pipelines.model import PipelineModel

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CheckableModel(PipelineModel):
    """A pipeline that tests itself."""

    def self_test(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt] | None = None,
        *,
        plan: Plan | None = None,
        **options: Unpack[Options],
    ) -> SelfTest:
        """Find out whether the network predicts what its configs say: the sign, the kind, the time, and the scale of its variable.

        Args:
            images: 8 or more that the model was trained on, or like them.
            prompts: one for each, or one for all; none for an unconditional network.
            plan: seed, batch size and resizing are taken from it.

        Raises:
            ValueError: for inputs that do not fit, see `mmg_diffusers.denoisers.selftest.self_test`.
        """
        chosen = Plan.of(plan, **options)
        with self.ready() as bench:
            pictures = bench.encoder.check_images(images, chosen.resize)
            condition = None
            if prompts is not None:
                texts = one_each(prompts, len(pictures), "prompts")
                bench.encoder.check_prompts(texts)
                condition = bench.encoder.condition(texts)
            x = torch.cat([part for _, part in bench.encoder.images(list(pictures), chosen.resize)])
            return self_test(bench.denoiser, x, condition, seed=chosen.seed, batch_size=chosen.batch_size)
