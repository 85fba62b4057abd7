"""Every nn.Module class of torch.nn, built small: a table by name, with what to call each with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

LINE, IMAGE, VOLUME = (2, 4, 8), (2, 4, 8, 8), (2, 4, 4, 4, 4)
WORDS, SEQUENCE = (2, 4), (5, 2, 8)


# torch's own lazy instance norms, loaded and not called before, do not know how many features they have.
NOT_CALLED_ONCE_LOADED = ("LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyInstanceNorm3d")


@dataclass(frozen=True)
class Layer:
    """How a layer is built, and inputs for it: shapes of random numbers, or tensors."""

    build: Callable[[], nn.Module]
    inputs: tuple[Any, ...] = ()

    def arguments(self) -> list[Any]:
        generator = torch.Generator().manual_seed(0)
        return [
            torch.randn(shape, generator=generator) if isinstance(shape, tuple) else shape
            for shape in self.inputs
        ]


def outputs(module: nn.Module, arguments: list[Any]) -> list[Tensor]:
    """Return the tensors that a module in evaluation mode makes of arguments."""
    module.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(_tensors(module(*arguments)))


def _tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _all(names: str, inputs: tuple[Any, ...], *args: Any, **options: Any) -> dict[str, Layer]:
    return {name: Layer(_maker(name, args, options), inputs) for name in names.split()}


def _maker(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with warnings.catch_warnings():  # of classes that torch still has and advises against
            warnings.simplefilter("ignore")
            module: nn.Module = getattr(nn, name)(*args, **options)
        return module

    return make


def _encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16)


def _decoder() -> nn.Module:
    return nn.TransformerDecoderLayer(8, 2, 16)


_CLASSES = torch.tensor([1, 2])

LAYERS: dict[str, Layer] = {
    **_all("Linear LazyLinear", (WORDS,), 3) | _all("Linear", (WORDS,), 4, 3),
    **_all("Bilinear", (WORDS, WORDS), 4, 4, 3),
    **_all("Identity Flatten GLU PReLU RReLU", (IMAGE,)),
    **_all("LazyConv1d LazyConvTranspose1d", (LINE,), 3, 3),
    **_all("LazyConv2d LazyConvTranspose2d", (IMAGE,), 3, 3),
    **_all("LazyConv3d LazyConvTranspose3d", (VOLUME,), 3, 3),
    **_all("Conv1d ConvTranspose1d", (LINE,), 4, 3, 3),
    **_all("Conv2d ConvTranspose2d", (IMAGE,), 4, 3, 3, bias=False),
    **_all("Conv3d ConvTranspose3d", (VOLUME,), 4, 3, 3),
    **_all("BatchNorm1d InstanceNorm1d", (LINE,), 4, affine=True, track_running_stats=True),
    **_all("BatchNorm2d InstanceNorm2d SyncBatchNorm", (IMAGE,), 4, affine=True, track_running_stats=True),
    **_all("BatchNorm3d InstanceNorm3d", (VOLUME,), 4, affine=True, track_running_stats=True),
    **_all("LazyBatchNorm1d LazyInstanceNorm1d", (LINE,), affine=True, track_running_stats=True),
    **_all("LazyBatchNorm2d LazyInstanceNorm2d", (IMAGE,), affine=True, track_running_stats=True),
    **_all("LazyBatchNorm3d LazyInstanceNorm3d", (VOLUME,), affine=True, track_running_stats=True),
    **_all("GroupNorm", (IMAGE,), 2, 4),
    **_all("LayerNorm RMSNorm", (LINE,), 8),
    **_all("Embedding", (torch.tensor([[0, 2]]),), 5, 4, padding_idx=2),
    **_all("EmbeddingBag", (torch.tensor([[0, 2]]),), 5, 4, padding_idx=0),
    **_all("RNN GRU", (SEQUENCE,), 8, 6, num_layers=2, bidirectional=True),
    **_all("LSTM", (SEQUENCE,), 8, 6, num_layers=2, proj_size=3),
    **_all("RNNCell GRUCell LSTMCell", (WORDS,), 4, 6),
    **_all("RNNBase", (), "LSTM", 8, 6),
    **_all("RNNCellBase", (), 4, 6, True, 4),
    **_all("MultiheadAttention", (SEQUENCE, SEQUENCE, SEQUENCE), 8, 2, add_bias_kv=True),
    **_all("Transformer", (SEQUENCE, SEQUENCE), 8, 2, 2, 2, 16),
    **_all("TransformerEncoderLayer", (SEQUENCE,), 8, 2, 16),
    **_all("TransformerDecoderLayer", (SEQUENCE, SEQUENCE), 8, 2, 16),
    "TransformerEncoder": Layer(
        lambda: nn.TransformerEncoder(_encoder(), 3, enable_nested_tensor=False), (SEQUENCE,)
    ),
    "TransformerDecoder": Layer(lambda: nn.TransformerDecoder(_decoder(), 3), (SEQUENCE, SEQUENCE)),
    **_all("AdaptiveLogSoftmaxWithLoss", (WORDS, _CLASSES), 4, 20, [5, 10]),
    **_all("LinearCrossEntropyLoss", (WORDS, _CLASSES), 4, 3),
    **_all("Module Container", ()),
    "Sequential": Layer(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), (WORDS,)),
    "DataParallel": Layer(lambda: nn.DataParallel(nn.Linear(4, 3)), (WORDS,)),
    "ModuleDict": Layer(lambda: nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Conv2d(4, 3, 3)})),
    "ModuleList": Layer(lambda: nn.ModuleList([nn.Linear(4, 3), nn.Linear(3, 3)])),
    "ParameterDict": Layer(lambda: nn.ParameterDict({"a": torch.randn(3), "b": torch.zeros(2, 2)})),
    "ParameterList": Layer(lambda: nn.ParameterList([torch.randn(3), torch.rand(2, 2)])),
    # What follows has no state.
    **_all("AdaptiveAvgPool1d AdaptiveMaxPool1d", (LINE,), 4),
    **_all("AdaptiveAvgPool2d AdaptiveMaxPool2d", (IMAGE,), 4),
    **_all("AdaptiveAvgPool3d AdaptiveMaxPool3d", (VOLUME,), 2),
    **_all("AvgPool1d MaxPool1d", (LINE,), 2) | _all("LPPool1d", (LINE,), 2, 2),
    **_all("AvgPool2d MaxPool2d PixelShuffle PixelUnshuffle ChannelShuffle", (IMAGE,), 2),
    **_all("LPPool2d", (IMAGE,), 2, 2) | _all("LPPool3d", (VOLUME,), 2, 2),
    **_all("AvgPool3d MaxPool3d", (VOLUME,), 2),
    **_all("FractionalMaxPool2d FractionalMaxPool3d", (), 2, output_size=4),
    **_all("MaxUnpool1d MaxUnpool2d MaxUnpool3d", (), 2),
    **_all("AlphaDropout Dropout FeatureAlphaDropout", (LINE,)) | _all("Dropout1d", (LINE,)),
    **_all("Dropout2d", (IMAGE,)) | _all("Dropout3d", (VOLUME,)),
    **_all("CircularPad1d ReflectionPad1d ReplicationPad1d ZeroPad1d", (LINE,), 1),
    **_all("CircularPad2d ReflectionPad2d ReplicationPad2d ZeroPad2d", (IMAGE,), 1),
    **_all("CircularPad3d ReflectionPad3d ReplicationPad3d ZeroPad3d", (VOLUME,), 1),
    **_all("ConstantPad1d", (LINE,), 1, 2.0) | _all("ConstantPad2d", (IMAGE,), 1, 2.0),
    **_all("ConstantPad3d", (VOLUME,), 1, 2.0),
    **_all("CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish", (LINE,)),
    **_all("ReLU ReLU6 SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink", (LINE,)),
    **_all("LogSoftmax Softmax Softmin", (LINE,), 1) | _all("Softmax2d", (IMAGE,)),
    **_all("Threshold", (LINE,), 0.1, 2.0) | _all("Unflatten", (LINE,), 1, (2, 2)),
    **_all("Upsample UpsamplingBilinear2d UpsamplingNearest2d", (IMAGE,), scale_factor=2),
    **_all("Unfold", (IMAGE,), 2) | _all("Fold", (), (4, 5), 2),
    **_all("CrossMapLRN2d LocalResponseNorm", (IMAGE,), 2),
    **_all("CosineSimilarity PairwiseDistance", (WORDS, WORDS)),
    **_all("BCEWithLogitsLoss HuberLoss L1Loss MSELoss PoissonNLLLoss", (WORDS, WORDS)),
    **_all("SmoothL1Loss SoftMarginLoss MultiLabelSoftMarginLoss", (WORDS, WORDS)),
    **_all("BCELoss CTCLoss GaussianNLLLoss KLDivLoss CosineEmbeddingLoss HingeEmbeddingLoss", ()),
    **_all("CrossEntropyLoss NLLLoss NLLLoss2d MultiMarginLoss", (WORDS, _CLASSES)),
    **_all("MarginRankingLoss MultiLabelMarginLoss TripletMarginLoss TripletMarginWithDistanceLoss", ()),
}
