"""The classes of torchmetrics that are components, and their modules."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version

from torchmetrics import Metric

__all__ = ["DOMAINS", "OPTIONAL", "find"]

DOMAINS = (
    "audio",
    "classification",
    "clustering",
    "detection",
    "image",
    "multimodal",
    "nominal",
    "regression",
    "retrieval",
    "segmentation",
    "shape",
    "text",
    "video",
)
"""The packages of torchmetrics with metrics of predictions and targets."""

OPTIONAL: Mapping[str, str] = {
    "ARNIQA": "image.arniqa",
    "BERTScore": "text.bert",
    "CLIPImageQualityAssessment": "multimodal.clip_iqa",
    "CLIPScore": "multimodal.clip_score",
    "CompleteIntersectionOverUnion": "detection.ciou",
    "DeepNoiseSuppressionMeanOpinionScore": "audio.dnsmos",
    "DistanceIntersectionOverUnion": "detection.diou",
    "FrechetInceptionDistance": "image.fid",
    "GeneralizedIntersectionOverUnion": "detection.giou",
    "InceptionScore": "image.inception",
    "InfoLM": "text.infolm",
    "IntersectionOverUnion": "detection.iou",
    "KernelInceptionDistance": "image.kid",
    "LearnedPerceptualImagePatchSimilarity": "image.lpip",
    "MeanAveragePrecision": "detection.mean_ap",
    "NonIntrusiveSpeechQualityAssessment": "audio.nisqa",
    "PerceptualEvaluationSpeechQuality": "audio.pesq",
    "ShortTimeObjectiveIntelligibility": "audio.stoi",
    "SpeechReverberationModulationEnergyRatio": "audio.srmr",
    "VideoMultiMethodAssessmentFusion": "video.vmaf",
}
"""The modules of classes that torchmetrics exports only if their requirements are installed."""


def find(name: str) -> type[Metric]:
    """Return the class of torchmetrics with that name.

    Raises:
        AttributeError: the installed torchmetrics does not have it.
    """
    places = [OPTIONAL[name]] if name in OPTIONAL else DOMAINS
    for place in places:
        module = import_module(f"torchmetrics.{place}")
        if name in OPTIONAL or name in module.__all__:
            found: type[Metric] = getattr(module, name)
            return found
    raise AttributeError(
        f"torchmetrics {version('torchmetrics')} has no metric {name!r} of predictions and targets; choose "
        "another, or install another torchmetrics"
    )
