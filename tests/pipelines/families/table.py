"""The table of families: one row a family or variant, each held against its own pipeline by `test_families`.

To add a family, write two files and three lines.

**The adapter**, ``mmg_diffusers/pipelines/adapters/<family>.py`` (60 to 150 lines; ``stable_diffusion_3`` is the plainest, ``flux``
packs tokens, ``pixart`` has masks, cleaned prompts and a learned variance, ``dit`` has classes, ``stable_diffusion_xl`` two nulls
and sizes), imported in ``adapters/__init__.py``:

- a `Network` (`adapters.networks`): ``forward(x, time, **condition)`` calls ``self.module`` as the pipeline does. x is
  `(B, *event)`, never packed; conditions come as the codec made them, in the dtype of the text encoders: ``.to(x.dtype)``. Tell
  ``told(time, x)``. Whatever depends on x's size (ids, rotary, sizes in pixels) is built here. `pack` and `unpack` are Flux's;
  `each_length` runs rows of one length at a time, for networks whose answer depends on padding.
- a codec: `LatentCodec` (`adapters.codecs`; override `scale`, `patch`, `native_size`, `read`, `scaling`, or set ``normalised = True``
  for latents_mean and latents_std) or `PixelCodec`, or `VideoCodec` for videos (``native_frames``, and ``group``, ``taken`` if the configs say them otherwise), with `CleaningCodec` before it if the pipeline cleans captions. Set
  ``denoiser`` ("transformer" is the default) and ``encoders`` (encoder to tokenizer); write ``encode_prompts``, a dict of tensors
  whose **first axis counts prompts**, and whose text does not depend on the others. Where lengths differ, give a key that ends
  in "mask": `stack` fills up with zeros *at the end*. Override `encode_null` for a null that is neither ``encode_prompts([""])`` nor
  zeros, `limits` for tokens let through, `rewritten` for what the pipeline makes of a prompt, `text_settings` for what an encoding
  depends on beside encoders and tokenizers (an instruction, a number of tokens: into caches and the record), `check_prompt`
  and `check_size` for what cannot be encoded. Words are masked in the tokenizers, wherever the pipeline calls them, so that
  nothing is written for it: `rewritten` has to be what a tokenizer's text begins with, and `limits` has to name them.
- a `Family` (`adapters.base`), decorated with `register`: name, pipelines (class names; subclasses are found too; img2img and inpaint
  classes as well if their network takes the noisy latent alone), parts, ``networks``, ``network``, ``codec``; ``refusal`` with `distilled`,
  `other_input` and `CANDIDATES` (`adapters.refusals`); ``nulls``, kinds and what the record says of them, the default first,
  chosen by ``MMGPipeline(pipe, null=...)`` and ``self.chosen``; ``learned_variance`` from the config; ``describe`` for more of the record;
  ``convention`` only if `convention_from_config` needs a change, as ``replace(super().convention(), time_scale=1.0)`` or ``told="signal",
  prediction="reversed_flow_prediction"`` of `RectifiedFlow`. Dynamic shifts take ``codec.tokens``.

**The rows**, ``tests/pipelines/families/<family>.py``: ``pipeline()`` makes the pipeline of tiny `parts`, wrapped in `parts.ready`;
``ROWS`` lists `Row`, which says in the family's own words how it is called (read there), with ``level`` from `row.vp` or `row.flow`
or a few lines from the paper, never from ours. Add it to ``ROWS`` below. Choose sizes so that no axis is 2 B or B by chance, and
not square where rows and columns could be confused (``size=(16, 24)``).

What the generic tests ask of a row is in `test_families`: parity, four ways to break the adapter (and a fifth, the latent's scale), the
oracle in the network's place, exact zeros, batches, half precision, folders, the record. What is special to a family (refusals, truncation)
belongs into ``test_refusals`` or a file of its own. `parity` and `oracle` are shared; a row that needs a change there lacks a word in `Row`.

    PYTHONPATH=$PWD pytest -q tests/pipelines/families -k <family>
"""

from tests.pipelines.families import (
    auraflow,
    chroma,
    cogvideox,
    cogview4,
    deepfloyd_if,
    dit,
    flux,
    hidream,
    hunyuandit,
    kandinsky3,
    kolors,
    ltx,
    lumina,
    lumina2,
    pixart,
    qwen_image,
    sana,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    wan,
    z_image,
)

ROWS = [
    *stable_diffusion.ROWS,
    *stable_diffusion_xl.ROWS,
    *stable_diffusion_3.ROWS,
    *pixart.ROWS,
    *dit.ROWS,
    *flux.ROWS,
    *chroma.ROWS,
    *sana.ROWS,
    *lumina2.ROWS,
    *lumina.ROWS,
    *qwen_image.ROWS,
    *z_image.ROWS,
    *hidream.ROWS,
    *auraflow.ROWS,
    *hunyuandit.ROWS,
    *deepfloyd_if.ROWS,
    *kandinsky3.ROWS,
    *kolors.ROWS,
    *cogview4.ROWS,
    *wan.ROWS,
    *cogvideox.ROWS,
    *ltx.ROWS,
]
