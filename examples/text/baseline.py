"""Bits for each character of the validation text, by counts and without a network: ``python baseline.py``."""

import numpy as np
from parts import characters

CODES = 128


def text(split: str) -> np.ndarray:
    """Return the codes of all characters."""
    inputs, _ = characters(split).tensors
    return inputs.flatten().numpy()


def contexts(codes: np.ndarray, length: int) -> np.ndarray:
    """Return a number for the ``length`` characters before each one; at the beginning, for 0s."""
    padded = np.concatenate([np.zeros(length, np.int64), codes])
    return sum((padded[shift : shift + len(codes)] * CODES**shift for shift in range(length)), 0 * codes)


def counted(keys: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return how often each of ``asked`` is among the keys."""
    known, counts = np.unique(keys, return_counts=True)
    places = np.searchsorted(known, asked).clip(max=len(known) - 1)
    return np.where(known[places] == asked, counts[places], 0)


train, val = text("train"), text("val")
probability = np.full(len(val), 1 / CODES)
for order in range(1, 7):
    before, asked = contexts(train, order - 1), contexts(val, order - 1)
    seen = counted(before, asked)
    followed = counted(before * CODES + train, asked * CODES + val)
    kinds = counted(np.unique(before * CODES + train) // CODES, asked)
    # Witten and Bell 1991: the lower order weighs as much as the kinds of characters that followed.
    mixed = (followed + kinds * probability) / np.maximum(seen + kinds, 1)
    probability = np.where(seen > 0, mixed, probability)
    print(f"{order} characters: {-np.log2(probability).mean():.2f}")
