"""The characters of Python's own help, and a network that predicts the next one."""

from functools import partial
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.utils.data import TensorDataset

import argus_core


@argus_core.register("dataset", "characters")
def characters(split: str = "train", length: int = 64) -> TensorDataset:
    """Return sequences of character codes, each with the sequence that begins one character later."""
    text = "".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")
    cut = len(text) * 9 // 10
    codes = torch.tensor(list(text[:cut] if split == "train" else text[cut:]))
    count = (len(codes) - 1) // length
    return TensorDataset(
        codes[: count * length].view(-1, length), codes[1 : count * length + 1].view(-1, length)
    )


def codes_of(length: int, line: str) -> torch.Tensor:
    """Return the codes of the last characters of a line."""
    return torch.tensor(list(line[-length:].rjust(length).encode("ascii", "replace")))


def codes_of_line(length: int = 64):
    """Return a function that makes an input of the end of a line of text."""
    return partial(codes_of, length)


characters.prepares = {"text": codes_of_line}


@argus_core.register("nn_module", "char_lstm")
class CharLSTM(nn.Module):
    """Logits (batch, 128 codes, length) of the character after each one of (batch, length) codes."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 64)
        self.lstm = nn.LSTM(64, width, batch_first=True)
        self.head = nn.Linear(width, 128)

    def forward(self, codes):
        return self.head(self.lstm(self.embedding(codes))[0]).transpose(1, 2)
