"""Pipelines of diffusers that make videos and cannot be measured, each with the reason and what still works."""

from __future__ import annotations

from mmg_diffusers.pipelines.adapters.registry import refuse

_OWN = (
    "measure the network by itself: `Adapted` makes a denoiser of it, and MMG and `measure_candidates` take that with latents of "
    "your own"
)
_TEXT = "measure a pipeline from text to video that there is an adapter for, such as WanPipeline"

refuse(
    f"there is no adapter for it yet; {_OWN}",
    *("AllegroPipeline", "LattePipeline", "MochiPipeline", "EasyAnimatePipeline", "HunyuanVideo15Pipeline"),
    *("Kandinsky5T2VPipeline", "Kandinsky5T2IPipeline", "SanaVideoPipeline", "MotifVideoPipeline"),
    *("CosmosTextToWorldPipeline", "Cosmos2TextToImagePipeline"),
    *("AnimateDiffPipeline", "AnimateDiffSDXLPipeline", "AnimateDiffPAGPipeline", "AnimateDiffVideoToVideoPipeline"),
    *("TextToVideoSDPipeline", "VideoToVideoSDPipeline"),
)
refuse(
    f"its network is told the guidance (guidance-distilled), and has no unconditional branch; compare candidates, and {_OWN}",
    *("HunyuanVideoPipeline", "HunyuanVideoImageToVideoPipeline", "HunyuanVideoFramepackPipeline"),
)
refuse(
    f"its network is also given an image or a video; {_TEXT}",
    *("StableVideoDiffusionPipeline", "I2VGenXLPipeline", "PIAPipeline", "HunyuanSkyreelsImageToVideoPipeline"),
    *("HunyuanVideo15ImageToVideoPipeline", "SkyReelsV2ImageToVideoPipeline", "SanaImageToVideoPipeline"),
    *("LTXImageToVideoPipeline", "LTXConditionPipeline", "LTXI2VLongMultiPromptPipeline"),
    *("CosmosVideoToWorldPipeline", "Cosmos2VideoToWorldPipeline", "Cosmos2_5_PredictBasePipeline"),
    *("Cosmos2_5_TransferPipeline", "Cosmos3OmniPipeline", "Kandinsky5I2VPipeline", "Kandinsky5I2IPipeline"),
    *("MotifVideoImage2VideoPipeline", "EasyAnimateInpaintPipeline", "EasyAnimateControlPipeline"),
    *("AnimateDiffControlNetPipeline", "AnimateDiffSparseControlNetPipeline"),
    *("AnimateDiffVideoToVideoControlNetPipeline", "SanaWMPipeline"),
)
refuse(
    "its network is told two times, from which and to which it goes: it is a map of a flow and predicts no noise; measure the model "
    "that it was distilled from, such as WanPipeline",
    "AnyFlowPipeline",
)
refuse(
    f"it denoises the frames of a video one after the other, each at a level of its own or given those before it; {_TEXT}",
    *("SkyReelsV2DiffusionForcingPipeline", "SkyReelsV2DiffusionForcingImageToVideoPipeline"),
    *(
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        "HeliosPipeline",
        "HeliosPyramidPipeline",
        "AnyFlowFARPipeline",
    ),
)
refuse(
    f"it denoises pictures and sound together; {_TEXT}",
    *("LTX2Pipeline", "LTX2ConditionPipeline", "LTX2ImageToVideoPipeline", "LTX2InContextPipeline", "LTX2HDRPipeline"),
    *("LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline", "Kandinsky6TI2VAPipeline"),
)
refuse(
    f"it refines latents that another pipeline made; {_TEXT}",
    *(
        "LTXLatentUpsamplePipeline",
        "LTX2LatentUpsamplePipeline",
        "LTX2VideoDiffusionDecodePipeline",
        "Kandinsky6SRPipeline",
    ),
)
refuse(
    "its network is that of Stable Diffusion, which knows no videos; measure single frames with StableDiffusionPipeline or "
    "StableDiffusionXLPipeline",
    *("TextToVideoZeroPipeline", "TextToVideoZeroSDXLPipeline"),
)
