"""Readers: the samples of files to predict on, one file format each (kind ``reader``)."""

from __future__ import annotations

from argus_core.data.readers.abstract_reader import SORTS, AbstractReader, Load

__all__ = ["SORTS", "AbstractReader", "Load"]
