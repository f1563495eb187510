"""Rows of LTX-Video."""

from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)

from tests.pipelines.families import parts
from tests.pipelines.families.row import Row, flow

SIZE, FRAMES = (64, 96), 17
# Times are shifted alike at any size, since tiny videos have few tokens.
DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 0.95, "shift_terminal": 0.1}


def transformer():
    return LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=32,
    )


def pipeline():
    def make():
        vae = AutoencoderKLLTXVideo(
            in_channels=3,
            out_channels=3,
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, True, False),
            decoder_spatio_temporal_scaling=(True, True, True, False),
            decoder_inject_noise=(False, False, False, False, False),
            upsample_residual=(False, False, False, False),
            upsample_factor=(1, 1, 1, 1),
            timestep_conditioning=False,
            patch_size=4,
            patch_size_t=1,
            encoder_causal=True,
            decoder_causal=False,
            scaling_factor=0.7,
        )
        # A folder keeps these among the weights.
        for name, low, high in (("latents_mean", -0.5, 0.9), ("latents_std", 0.8, 2.4)):
            getattr(vae, name).copy_(vae.latents_mean.new_tensor([low + (high - low) * k / 7 for k in range(8)]))
        return LTXPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(**DYNAMIC),
            vae=vae,
            text_encoder=parts.t5(),
            tokenizer=parts.t5_tokenizer(128),
            transformer=transformer(),
        )

    return parts.ready(make)


def unpacked(pipe, tokens):
    """Tokens of 3 latents along time, 2 high and 3 wide."""
    return tokens.reshape(len(tokens), 3, 2, 3, -1).permute(0, 4, 1, 2, 3)


ROWS = [
    Row(
        "ltx",
        pipeline(),
        flow(1000),
        "flow",
        call={"num_frames": FRAMES},
        event=lambda pipe, x: unpacked(pipe, x) if x.ndim == 3 else x,
        packed=lambda pipe, x: x.permute(0, 2, 3, 4, 1).flatten(1, 3),
        images=lambda pipe, pixels: pipe.vae.encode(pixels.transpose(1, 2)).latent_dist.mode(),
        size=SIZE,
        frames=FRAMES,
    )
]
