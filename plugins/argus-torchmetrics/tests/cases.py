"""For each metric that can be built here: its parameters, and data with samples to cut anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

SAMPLES = 24
CLASSES = 4
LABELS = 3

Data = tuple[Any, Any]


@dataclass(frozen=True)
class Case:
    """What a metric is built from and updated with.

    Attributes:
        params: the metric's.
        data: makes predictions and targets of all samples.
        samples: how many are enough; some metrics take long.
        smallest: the samples that a batch needs.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    data: Callable[[], Data] = tuple  # type: ignore[assignment]
    samples: int = SAMPLES
    smallest: int = 1

    def draw(self) -> Data:
        """Return all samples."""
        return cut(self.data(), [self.samples])[0]


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(SAMPLES, *shape, generator=_random(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(SAMPLES, *shape, generator=_random(seed))


def integers(high: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(high, (SAMPLES, *shape), generator=_random(seed))


def binary() -> Data:
    return uniform(), integers(2)


def multiclass() -> Data:
    return normal(CLASSES).softmax(1), integers(CLASSES)


def multilabel() -> Data:
    return uniform(LABELS), integers(2, LABELS)


def exact_multiclass() -> Data:
    return integers(2, 3, seed=2), integers(2, 3)


def grouped() -> Data:
    return uniform(), {"target": integers(2), "groups": torch.arange(SAMPLES) % 2}


def values() -> Data:
    target = normal(seed=3)
    return target + 0.3 * normal(seed=4), target


def positive() -> Data:
    prediction, target = values()
    return prediction.abs() + 0.1, target.abs() + 0.1


def vectors() -> Data:
    target = normal(3, seed=3)
    return target + 0.3 * normal(3, seed=4), target


def distributions() -> Data:
    return normal(5).softmax(1), normal(5, seed=5).softmax(1)


def ensemble() -> Data:
    return normal(6), normal(seed=5)


def clusters() -> Data:
    return integers(3, seed=2), integers(3)


def points() -> Data:
    labels = torch.arange(SAMPLES) % 3
    return normal(2) + 3 * labels[:, None], labels


def ratings() -> Data:
    return integers(5, 3), integers(2)


def queries() -> Data:
    return uniform(), {"target": integers(2), "indexes": torch.arange(SAMPLES) // 6}


def images(channels: int = 3, size: int = 16) -> Data:
    target = uniform(channels, size, size, seed=6)
    return (target + 0.1 * uniform(channels, size, size, seed=7)) / 1.1, target


def sharpened() -> Data:
    coarse = uniform(3, 16, 16, seed=6)
    pan = uniform(3, 32, 32, seed=8)
    return uniform(3, 32, 32, seed=7), {"ms": coarse, "pan": pan, "pan_lr": pan[:, :, ::2, ::2]}


def masks() -> Data:
    return integers(CLASSES, 8, 8, seed=2), integers(CLASSES, 8, 8)


def panoptic() -> Data:
    def draw(seed: int) -> Tensor:
        categories = torch.tensor([0, 1, 6])[integers(3, 5, 5, seed=seed)]
        return torch.stack([categories, integers(2, 5, 5, seed=seed + 1)], dim=-1)

    return draw(2), draw(4)


def sound(*shape: int) -> Data:
    target = normal(*shape, 800, seed=3)
    return target + 0.5 * normal(*shape, 800, seed=4), target


def spectra() -> Data:
    target = normal(5, 20, 2, seed=3)
    return target + 0.5 * normal(5, 20, 2, seed=4), target


def clouds() -> Data:
    return normal(6, 2), normal(6, 2, seed=5)


def faces() -> Data:
    return normal(9, 3), normal(9, 3, seed=5)


_SAID = ["the cat is on the mat", "there is a big tree near the house", "hello world", "it rained all day"]
_MEANT = ["a cat is on the mat", "a big tree is growing near the house", "hello there world", "it rained"]


def texts() -> Data:
    return [_SAID[i % 4] for i in range(SAMPLES)], [_MEANT[(i + i // 5) % 4] for i in range(SAMPLES)]


def translations() -> Data:
    said, meant = texts()
    return said, [[text, text.upper()] for text in meant]


def answers() -> Data:
    said, meant = texts()
    asked = [
        {"answers": {"answer_start": [0], "text": [text]}, "id": str(number)}
        for number, text in enumerate(meant)
    ]
    return [{"prediction_text": text, "id": str(number)} for number, text in enumerate(said)], asked


def tokens() -> Data:
    return normal(5, 7), integers(7, 5)


_TASKS = """AUROC Accuracy AveragePrecision CalibrationError CohenKappa ConfusionMatrix EER F1Score FBetaScore
HammingDistance HingeLoss JaccardIndex LogAUC MatthewsCorrCoef NegativePredictiveValue Precision
PrecisionAtFixedRecall PrecisionRecallCurve ROC Recall RecallAtFixedPrecision SensitivityAtSpecificity
Specificity SpecificityAtSensitivity StatScores""".split()
_NO_MULTILABEL = {"CalibrationError", "CohenKappa", "HingeLoss"}
_MORE: Mapping[str, Mapping[str, Any]] = {
    "FBetaScore": {"beta": 0.5},
    "PrecisionAtFixedRecall": {"min_recall": 0.5},
    "RecallAtFixedPrecision": {"min_precision": 0.5},
    "SensitivityAtSpecificity": {"min_specificity": 0.5},
    "SpecificityAtSensitivity": {"min_sensitivity": 0.5},
}


def _classification() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name in _TASKS:
        more = _MORE.get(name, {})
        cases[f"Binary{name}"] = Case(more, binary)
        cases[f"Multiclass{name}"] = Case({"num_classes": CLASSES, **more}, multiclass)
        if name not in _NO_MULTILABEL:
            cases[f"Multilabel{name}"] = Case({"num_labels": LABELS, **more}, multilabel)
        cases[name] = Case({"task": "multiclass", "num_classes": CLASSES, **more}, multiclass)
    return cases


# What cannot be built where nothing but torchmetrics is installed: its parameters, and the package it names.
NEEDS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "ARNIQA": ({}, "torchvision"),
    "BERTScore": ({}, "transformers"),
    "CLIPImageQualityAssessment": ({}, "transformers"),
    "CLIPScore": ({}, "transformers"),
    "ClusterAccuracy": ({"num_classes": 3}, "torch_linear_assignment"),
    "CompleteIntersectionOverUnion": ({}, "torchvision"),
    "DeepImageStructureAndTextureSimilarity": ({}, "torchvision"),
    "DeepNoiseSuppressionMeanOpinionScore": ({"fs": 16000, "personalized": False}, "librosa"),
    "DistanceIntersectionOverUnion": ({}, "torchvision"),
    "FrechetInceptionDistance": ({}, "torch-fidelity"),
    "GeneralizedIntersectionOverUnion": ({}, "torchvision"),
    "InceptionScore": ({}, "torch-fidelity"),
    "InfoLM": ({}, "transformers"),
    "IntersectionOverUnion": ({}, "torchvision"),
    "KernelInceptionDistance": ({}, "torch-fidelity"),
    "LearnedPerceptualImagePatchSimilarity": ({}, "torchvision"),
    "MeanAveragePrecision": ({}, "pycocotools"),
    "MemorizationInformedFrechetInceptionDistance": ({}, "torch-fidelity"),
    "NonIntrusiveSpeechQualityAssessment": ({"fs": 16000}, "librosa"),
    "PerceptualEvaluationSpeechQuality": ({"fs": 16000, "mode": "wb"}, "pesq"),
    "ShortTimeObjectiveIntelligibility": ({"fs": 16000}, "pystoi"),
    "SpeechReverberationModulationEnergyRatio": ({"fs": 16000}, "gammatone"),
    "VideoMultiMethodAssessmentFusion": ({}, "vmaf-torch"),
}

CASES: Mapping[str, Case] = {
    **_classification(),
    # A batch without one of the groups counts the other as the first: torchmetrics numbers those it sees.
    "BinaryFairness": Case({"num_groups": 2}, grouped, smallest=2),
    "BinaryGroupStatRates": Case({"num_groups": 2}, grouped, smallest=2),
    "ExactMatch": Case({"task": "multiclass", "num_classes": 2}, exact_multiclass),
    "MulticlassExactMatch": Case({"num_classes": 2}, exact_multiclass),
    "MultilabelExactMatch": Case({"num_labels": LABELS}, multilabel),
    "MultilabelCoverageError": Case({"num_labels": LABELS}, multilabel),
    "MultilabelRankingAveragePrecision": Case({"num_labels": LABELS}, multilabel),
    "MultilabelRankingLoss": Case({"num_labels": LABELS}, multilabel),
    # regression
    "ConcordanceCorrCoef": Case({}, values),
    "ContinuousRankedProbabilityScore": Case({}, ensemble),
    "CosineSimilarity": Case({}, vectors),
    "CriticalSuccessIndex": Case({"threshold": 0.5}, positive),
    "ExplainedVariance": Case({}, values),
    "JensenShannonDivergence": Case({}, distributions),
    "KLDivergence": Case({}, distributions),
    "KendallRankCorrCoef": Case({}, values),
    "LogCoshError": Case({}, values),
    "MeanAbsoluteError": Case({}, values),
    "MeanAbsolutePercentageError": Case({}, positive),
    "MeanSquaredError": Case({}, values),
    "MeanSquaredLogError": Case({}, positive),
    "MinkowskiDistance": Case({"p": 3}, values),
    "NormalizedRootMeanSquaredError": Case({}, positive),
    "PearsonCorrCoef": Case({}, values),
    "R2Score": Case({}, values),
    "RelativeSquaredError": Case({}, values),
    "SpearmanCorrCoef": Case({}, values),
    "SymmetricMeanAbsolutePercentageError": Case({}, positive),
    "TweedieDevianceScore": Case({"power": 1.5}, positive),
    "WeightedMeanAbsolutePercentageError": Case({}, positive),
    # clustering and nominal
    **dict.fromkeys(
        """AdjustedMutualInfoScore AdjustedRandScore CompletenessScore FowlkesMallowsIndex HomogeneityScore
        MutualInfoScore NormalizedMutualInfoScore RandScore VMeasureScore""".split(),
        Case({}, clusters),
    ),
    **dict.fromkeys(["CalinskiHarabaszScore", "DaviesBouldinScore", "DunnIndex"], Case({}, points)),
    **dict.fromkeys(
        ["CramersV", "PearsonsContingencyCoefficient", "TheilsU", "TschuprowsT"],
        Case({"num_classes": 3}, clusters),
    ),
    "FleissKappa": Case({"mode": "counts"}, ratings),
    # retrieval
    **dict.fromkeys(
        """RetrievalAUROC RetrievalFallOut RetrievalHitRate RetrievalMAP RetrievalMRR RetrievalNormalizedDCG
        RetrievalPrecision RetrievalPrecisionRecallCurve RetrievalRPrecision RetrievalRecall
        RetrievalRecallAtFixedPrecision""".split(),
        Case({}, queries),
    ),
    # images
    "ErrorRelativeGlobalDimensionlessSynthesis": Case({}, images),
    "MultiScaleStructuralSimilarityIndexMeasure": Case(
        {"betas": [0.5, 0.5], "kernel_size": 5, "data_range": 1.0}, partial(images, size=32), samples=5
    ),
    "PeakSignalNoiseRatio": Case({"data_range": 1.0}, images),
    "PeakSignalNoiseRatioWithBlockedEffect": Case({"data_range": 1.0}, partial(images, channels=1)),
    "QualityWithNoReference": Case({}, sharpened, samples=5),
    "RelativeAverageSpectralError": Case({}, images, samples=5),
    "RootMeanSquaredErrorUsingSlidingWindow": Case({}, images, samples=5),
    "SpatialCorrelationCoefficient": Case({}, images, samples=5),
    "SpatialDistortionIndex": Case({}, sharpened, samples=5),
    "SpectralAngleMapper": Case({}, images),
    "SpectralDistortionIndex": Case({}, images, samples=5),
    "StructuralSimilarityIndexMeasure": Case({"data_range": 1.0}, images, samples=5),
    "TotalVariation": Case({}, images),
    "UniversalImageQualityIndex": Case({}, images, samples=5),
    "VisualInformationFidelity": Case({}, partial(images, channels=1, size=41), samples=2),
    # segmentation, detection and shape
    "DiceScore": Case({"num_classes": CLASSES, "input_format": "index"}, masks),
    "GeneralizedDiceScore": Case({"num_classes": CLASSES, "input_format": "index"}, masks),
    "HausdorffDistance": Case({"num_classes": CLASSES, "input_format": "index"}, masks, samples=4),
    "MeanIoU": Case({"num_classes": CLASSES, "input_format": "index"}, masks),
    "ModifiedPanopticQuality": Case({"things": [0, 1], "stuffs": [6]}, panoptic),
    "PanopticQuality": Case({"things": [0, 1], "stuffs": [6]}, panoptic),
    "ProcrustesDisparity": Case({}, clouds),
    "LipVertexError": Case({"mouth_map": [0, 1, 2]}, faces),
    # audio
    "ComplexScaleInvariantSignalNoiseRatio": Case({}, spectra),
    "PermutationInvariantTraining": Case(
        {"metric_func": "scale_invariant_signal_distortion_ratio"}, partial(sound, 2)
    ),
    "ScaleInvariantSignalDistortionRatio": Case({}, sound),
    "ScaleInvariantSignalNoiseRatio": Case({}, sound),
    "SignalDistortionRatio": Case({"filter_length": 16}, sound),
    "SignalNoiseRatio": Case({}, sound),
    "SourceAggregatedSignalDistortionRatio": Case({}, partial(sound, 2)),
    # text
    **dict.fromkeys(
        ["BLEUScore", "CHRFScore", "SacreBLEUScore", "TranslationEditRate"], Case({}, translations)
    ),
    **dict.fromkeys(
        """CharErrorRate EditDistance ExtendedEditDistance MatchErrorRate WordErrorRate WordInfoLost
        WordInfoPreserved""".split(),
        Case({}, texts),
    ),
    "Perplexity": Case({}, tokens),
    "ROUGEScore": Case({"rouge_keys": ["rouge1", "rouge2"]}, texts),
    "SQuAD": Case({}, answers),
}


def cut(data: Data, sizes: list[int]) -> list[Data]:
    """Return the data of batches of these sizes."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    return [(_part(data[0], *ends_), _part(data[1], *ends_)) for ends_ in zip(starts, ends, strict=True)]


def _part(value: Any, start: int, end: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _part(each, start, end) for key, each in value.items()}
    return value[start:end]
