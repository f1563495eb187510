"""Pipelines of diffusers that make images, sound or other things and cannot be measured, each with the reason and what still works."""

from __future__ import annotations

from mmg_diffusers.pipelines.adapters.refusals import CANDIDATES
from mmg_diffusers.pipelines.adapters.registry import refuse

_OWN = (
    "measure the network by itself: `Adapted` makes a denoiser of it, and MMG and `measure_candidates` take that with variables of "
    "your own"
)
_BASE = "measure the text-to-image pipeline of its network, which is given noise and text alone"

refuse(
    f"it makes sound, and images and videos are measured here; {_OWN}",
    *("AudioLDMPipeline", "AudioLDM2Pipeline", "MusicLDMPipeline", "StableAudioPipeline", "StableAudio3Pipeline"),
    *("StableAudio3AudioToAudioPipeline", "StableAudio3InpaintPipeline", "AudioDiffusionPipeline", "AceStepPipeline"),
    *("DanceDiffusionPipeline", "SpectrogramDiffusionPipeline", "LongCatAudioDiTPipeline"),
)
refuse(
    "its network (a consistency model) maps a noisy image to the end of a path, and predicts the noise of no level; measure the "
    "model that it was distilled from",
    "ConsistencyModelPipeline",
)
refuse(
    f"its network was distilled to a few steps and is told the guidance: it has no unconditional branch. Measure the model that it was "
    f"distilled from, or {CANDIDATES}, on a denoiser made with `Adapted`",
    *("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
)
_PRIOR = (
    "its decoder is given the embedding of an image that a prior drew, and not the prompt, so that its information would be that of the "
    "embedding"
)
refuse(
    f"{_PRIOR}; measure Kandinsky3Pipeline, whose network is given the text",
    *("KandinskyPipeline", "KandinskyCombinedPipeline", "KandinskyImg2ImgPipeline", "KandinskyImg2ImgCombinedPipeline"),
    *("KandinskyInpaintPipeline", "KandinskyInpaintCombinedPipeline", "KandinskyV22Pipeline"),
    *("KandinskyV22CombinedPipeline", "KandinskyV22Img2ImgPipeline", "KandinskyV22Img2ImgCombinedPipeline"),
    *("KandinskyV22InpaintPipeline", "KandinskyV22InpaintCombinedPipeline", "KandinskyV22ControlnetPipeline"),
    "KandinskyV22ControlnetImg2ImgPipeline",
)
refuse(
    f"{_PRIOR}; measure a pipeline whose network is given the text, such as StableDiffusionPipeline",
    *(
        "StableCascadeDecoderPipeline",
        "StableCascadeCombinedPipeline",
        "UnCLIPPipeline",
        "UnCLIPImageVariationPipeline",
    ),
    *("WuerstchenDecoderPipeline", "WuerstchenCombinedPipeline"),
)
refuse(
    f"it makes embeddings of images, or small latents for a decoder, and no images; {_OWN}",
    *("KandinskyPriorPipeline", "KandinskyV22PriorPipeline", "KandinskyV22PriorEmb2EmbPipeline"),
    *("StableCascadePriorPipeline", "WuerstchenPriorPipeline"),
)
refuse(
    f"its network is also steered by an image (ControlNet, adapters, boxes); {_BASE}",
    *("StableDiffusionControlNetPipeline", "StableDiffusionControlNetImg2ImgPipeline", "CogView4ControlPipeline"),
    *("StableDiffusionControlNetInpaintPipeline", "StableDiffusionControlNetXSPipeline"),
    *("StableDiffusionControlNetPAGPipeline", "StableDiffusionControlNetPAGInpaintPipeline"),
    *("StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetImg2ImgPipeline"),
    *("StableDiffusionXLControlNetInpaintPipeline", "StableDiffusionXLControlNetXSPipeline"),
    *("StableDiffusionXLControlNetPAGPipeline", "StableDiffusionXLControlNetPAGImg2ImgPipeline"),
    *("StableDiffusionXLControlNetUnionPipeline", "StableDiffusionXLControlNetUnionImg2ImgPipeline"),
    *("StableDiffusionXLControlNetUnionInpaintPipeline", "StableDiffusion3ControlNetPipeline"),
    *("StableDiffusion3ControlNetInpaintingPipeline", "FluxControlNetPipeline", "FluxControlNetImg2ImgPipeline"),
    *("FluxControlNetInpaintPipeline", "HunyuanDiTControlNetPipeline", "SanaControlNetPipeline"),
    *("QwenImageControlNetPipeline", "QwenImageControlNetInpaintPipeline", "ZImageControlNetPipeline"),
    *("ZImageControlNetInpaintPipeline", "StableDiffusionAdapterPipeline", "StableDiffusionXLAdapterPipeline"),
    *("StableDiffusionGLIGENPipeline", "StableDiffusionGLIGENTextImagePipeline", "BlipDiffusionControlNetPipeline"),
)
refuse(
    f"its network is also given an image; {_BASE}",
    *("PaintByExamplePipeline", "LDMSuperResolutionPipeline", "MarigoldDepthPipeline", "MarigoldNormalsPipeline"),
    *("MarigoldIntrinsicsPipeline", "BlipDiffusionPipeline", "VisualClozePipeline", "VisualClozeGenerationPipeline"),
    *("VersatileDiffusionImageVariationPipeline", "VersatileDiffusionDualGuidedPipeline", "BriaFiboEditPipeline"),
    *("JoyImageEditPipeline", "JoyImageEditPlusPipeline", "LongCatImageEditPipeline", "HunyuanImageRefinerPipeline"),
)
refuse(
    "its network is that of a text-to-image pipeline, and what it does to it while sampling is no matter of a measurement: load its "
    "folder's parts as that, StableDiffusionPipeline(**pipe.components)",
    *("StableDiffusionSAGPipeline", "StableDiffusionPanoramaPipeline", "StableDiffusionAttendAndExcitePipeline"),
    *("StableDiffusionDiffEditPipeline", "StableDiffusionPix2PixZeroPipeline", "StableDiffusionModelEditingPipeline"),
    *("StableDiffusionParadigmsPipeline", "SemanticStableDiffusionPipeline", "CycleDiffusionPipeline"),
)
refuse(
    "its networks run outside of torch; load the same model as StableDiffusionPipeline",
    *("OnnxStableDiffusionPipeline", "OnnxStableDiffusionImg2ImgPipeline", "OnnxStableDiffusionInpaintPipeline"),
    *("OnnxStableDiffusionUpscalePipeline", "StableDiffusionOnnxPipeline"),
)
refuse(
    f"it denoises tokens and no numbers, so that there is no Gaussian noise to tell; {_BASE}",
    *("AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline", "VQDiffusionPipeline", "LLaDA2Pipeline"),
    "DiffusionGemmaPipeline",
)
