"""How many samples a batch holds, where that can be told, and what says so where it cannot."""

from __future__ import annotations

from collections import UserDict
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from argus_core import ArgusError, ParamsError, deep_chunk
from argus_core.tensors.batch import deep_split, deep_to
from argus_core.tensors.dimensions import check_batch_dim
from argus_core.tensors.joining import deep_cat
from argus_core.tensors.samples import UnknownSizeError, batch_size


class Pair(NamedTuple):
    input: Any
    target: Any


class Encoding(UserDict[str, Any]):
    """A mapping that is no dict, as tokenizers return one."""


class Graph:
    """What is no container of tensors, and knows how to move."""

    def to(self, *args: Any, **kwargs: Any) -> Graph:
        return self


def images(count: int, height: int | None = None) -> tuple[Tensor, ...]:
    return tuple(torch.randn(3, height or 4 + number, 5) for number in range(count))


def boxes(count: int, each: int | None = None) -> tuple[dict[str, Tensor], ...]:
    return tuple({"boxes": torch.rand(number % 4 if each is None else each, 4)} for number in range(count))


COUNTED: dict[str, tuple[Any, int]] = {
    "pair": ((torch.ones(5, 2), torch.ones(5)), 5),
    "list of a pair": ([torch.ones(5, 2), torch.ones(5)], 5),
    "namedtuple": (Pair(torch.ones(5, 2), torch.ones(5)), 5),
    "dict with scalars": (
        {"x": torch.ones(5, 2), "scale": torch.tensor(0.5), "step": 3, "phase": "train", "path": ["a"] * 5},
        5,
    ),
    "mapping": (Encoding({"ids": torch.ones(5, 2), "mask": torch.ones(5, 2)}), 5),
    "three inputs": ((torch.ones(5, 2), torch.ones(5, 3), torch.ones(5, 2)), 5),
    "inputs within": (([torch.ones(5, 2), torch.ones(5, 7)], torch.ones(5)), 5),
    "inputs and targets within": (
        ([torch.ones(5, 3, 8), torch.ones(5, 7)], [torch.ones(5), torch.ones(5, 4)]),
        5,
    ),
    "images and dicts": ((images(10), boxes(10)), 10),
    "images of one size and dicts": ((images(10, 6), boxes(10)), 10),
    "as many boxes as channels": ((images(2, 6), boxes(2, 3)), 2),
    "lists of images and dicts": ([[*images(10)], [*boxes(10)]], 10),
    "images and labels": (([*images(10, 6)], torch.arange(10)), 10),
    "images and plain labels": ((images(10, 6), tuple(range(10))), 10),
    "images and labels of 0 dimensions": ((images(10, 6), tuple(torch.arange(10))), 10),
    "images alone": (torch.ones(10, 3, 6, 6), 10),
    "images in a tuple of one": ([torch.ones(10, 3, 6, 6)], 10),
    "sequences": (([torch.ones(length) for length in (3, 1, 2, 5)], torch.ones(4)), 4),
    "list of dicts": ([{"image": image, "height": 6} for image in images(7, 6)], 7),
    "list of tuples": ([(image, 1) for image in images(7, 6)], 7),
    "list of one pair": ([(images(1)[0], boxes(1, 2)[0])], 1),
    "pairs with as many boxes as channels": ([*zip(images(4, 6), boxes(4, 3), strict=True)], 4),
    "one triple with as many boxes as channels": ([(images(1)[0], torch.ones(3, 4), torch.ones(3))], 1),
    "columns of pairs in a list": ([images(10), boxes(10)], 10),
    "columns of images and plain labels in a list": ([images(4, 6), (1, 2, 3, 4)], 4),
    "columns of one image and its boxes": ([images(1), boxes(1, 3)], 1),
    "texts": (["a", "b", "c"], 3),
    "texts and labels": ((["a", "b", "c"], torch.arange(3)), 3),
    "token lists": (([[1, 2], [3], [4, 5, 6]], torch.arange(3)), 3),
    "packed": ((pack_sequence([torch.ones(3), torch.ones(2)]), torch.ones(2)), 2),
    "arrays among tensors": ((torch.ones(5, 2), numpy.ones(2)), 5),
    "arrays alone": ((numpy.ones((5, 2)), numpy.ones(5)), 5),
    "sparse": ((torch.eye(5).to_sparse(), torch.ones(5)), 5),
    "one sample": ((torch.ones(1, 2), torch.ones(1)), 1),
    "no sample": ((torch.ones(0, 2), torch.ones(0)), 0),
    "no image": (([], []), 0),
    "a seed": (7, 1),
    "nothing": (None, 1),
}


@pytest.mark.parametrize(("batch", "samples"), COUNTED.values(), ids=COUNTED)
def test_samples_are_counted_where_they_can_be_told(batch: Any, samples: int) -> None:
    assert batch_size(batch) == samples


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_a_nested_tensor_has_a_sample_in_each_part_and_is_cut_between_them(layout: torch.layout) -> None:
    rows = [torch.ones(2, 3), torch.zeros(4, 3), torch.ones(1, 3)]
    batch = torch.nested.as_nested_tensor(rows, layout=layout), torch.arange(3)
    assert batch_size(batch) == 3
    first, second = deep_split(batch, 2)
    assert [len(each) for each in first[0].unbind()] == [2, 4]
    assert [len(each) for each in second[0].unbind()] == [1]


@pytest.mark.parametrize(
    "batch",
    [
        (torch.ones(5, 4, 3), torch.ones(4)),
        {"x": torch.ones(4, 2), "y": torch.ones(3)},
        (torch.ones(9, 2), torch.ones(6), torch.tensor([4, 5]), torch.tensor([3, 3])),
        (images(10), torch.ones(9)),
    ],
    ids=["sequence first", "dict", "concatenated targets", "images"],
)
def test_tensors_that_disagree_are_not_guessed_about(batch: Any) -> None:
    with pytest.raises(
        ParamsError, match=r"cannot tell .* declare in the model.*override batch_size\(batch\)"
    ):
        batch_size(batch)


@pytest.mark.parametrize(
    "batch",
    [
        ([torch.ones(5, 2), torch.ones(5, 2)], [torch.ones(5), torch.ones(5)]),
        {"images": [*images(10)]},
        [{"view": torch.ones(5, 2)}, {"view": torch.ones(5, 2)}],
    ],
    ids=["inputs and targets", "images", "dicts"],
)
def test_a_list_that_may_be_read_in_two_ways_is_not_guessed_about(batch: Any) -> None:
    with pytest.raises(ParamsError, match=r"may hold \d+ or \d+ samples.*batch_dim = 0.*override batch_size"):
        batch_size(batch)


def test_a_declared_dimension_says_that_each_tensor_holds_all_samples() -> None:
    batch = [torch.ones(5, 2), torch.ones(5, 2)], [torch.ones(5), torch.ones(5)]
    assert batch_size(batch, 0) == 5


@pytest.mark.parametrize("batch", [Graph(), (Graph(), 3), {"graph": Graph()}])
def test_what_tells_nothing_asks_for_an_override(batch: Any) -> None:
    with pytest.raises(
        UnknownSizeError, match=r"does not tell how many samples.*override batch_size\(batch\)"
    ):
        batch_size(batch)


@pytest.mark.parametrize(
    ("batch", "dim"),
    [
        ((torch.ones(5, 4, 3), torch.ones(4)), 1),
        ((torch.ones(5, 4, 3), torch.ones(5, 4)), 1),
        ((torch.ones(5, 4, 3), torch.ones(4, 2)), [1, 0]),
        (
            {"x": torch.ones(5, 4), "mask": torch.ones(5, 5), "y": torch.ones(4)},
            {"x": 1, "mask": None, "y": 0},
        ),
        (Pair({"x": torch.ones(5, 4)}, torch.ones(4)), [{"x": 1}, 0]),
        (([*images(4, 6)], torch.ones(4)), ["entries", 0]),
        ({"images": tuple(images(4, 6)), "boxes": [*boxes(4)]}, {"images": "entries", "boxes": "entries"}),
        (([torch.ones(4, 2, 2)] * 4, torch.ones(4)), [0, 0]),
        ([{"image": image, "box": torch.ones(3, 4)} for image in images(4)], "entries"),
        ([[image, torch.ones(3)] for image in images(4, 6)], "entries"),
    ],
    ids=(
        "one, both, each, dict, named tuple, images, dict of images, list of inputs, list of dicts, "
        "list of lists"
    ).split(", "),
)
def test_declared_dimensions_are_counted_and_cut(batch: Any, dim: Any) -> None:
    assert batch_size(batch, check_batch_dim(dim)) == 4
    parts = deep_split(batch, 3, check_batch_dim(dim))
    assert [batch_size(part, check_batch_dim(dim)) for part in parts] == [3, 1]
    assert all(type(part) is type(batch) for part in parts)
    if "mask" in batch:
        assert parts[1]["mask"] is batch["mask"]


@pytest.mark.parametrize("dim", [-1, 1.5, True, "1", "rows", [1, "0"], {"x": -2}], ids=str)
def test_a_declaration_of_another_form_is_refused(dim: Any) -> None:
    with pytest.raises(ParamsError, match=r"batch_dim.* is .*; it must be the dimension of the samples"):
        check_batch_dim(dim)


@pytest.mark.parametrize(
    ("dim", "said"),
    [
        ([1], "for 1 entries, and the batch has 2"),
        ([[1], 0], "declares .* for a tensor"),
        (["entries", 0], "declares 'entries' for a tensor"),
        ("entries", r"batch_dim is 'entries' and a batch is a tuple of 2 .* declare one for each"),
    ],
)
def test_a_declaration_that_does_not_fit_the_batch_is_refused(dim: Any, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        batch_size((torch.ones(5, 4), torch.ones(4)), dim)


def test_a_declaration_without_an_entry_of_the_batch_is_refused() -> None:
    with pytest.raises(ParamsError, match="declared for 'x', and the batch has an entry 'y'"):
        batch_size({"x": torch.ones(5, 4), "y": torch.ones(4)}, {"x": 1})


# Cutting.


@pytest.mark.parametrize("kind", [tuple, list])
def test_lists_of_samples_are_cut_between_samples(kind: Any) -> None:
    batch = kind([kind(images(10, 6)), kind(boxes(10))])
    parts = deep_chunk(batch, 3)
    assert [len(part[0]) for part in parts] == [4, 4, 2]
    assert {type(part) for part in parts} == {type(part[0]) for part in parts} == {kind}
    assert all(image.shape == (3, 6, 5) for part in parts for image in part[0])
    together = deep_cat(parts)
    assert [len(each["boxes"]) for each in together[1]] == [len(each["boxes"]) for each in batch[1]]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("each", [2, 3])
def test_a_list_of_pairs_is_cut_between_pairs_however_many_boxes_they_have(count: int, each: int) -> None:
    batch = [*zip(images(count, 6), boxes(count, each), strict=True)]
    parts = deep_split(batch, 1)
    assert [part[0][0] is pair[0] for part, pair in zip(parts, batch, strict=True)] == [True] * count


@pytest.mark.parametrize("kind", [tuple, list])
def test_pairs_of_inputs_and_of_targets_are_cut_at_two_samples_too(kind: Any) -> None:
    batch = kind(
        [kind([torch.ones(2, 5, 4), torch.tensor([5, 3])]), kind([torch.ones(2, 6), torch.tensor([6, 1])])]
    )
    _, second = deep_split(batch, 1)
    assert [each.tolist() for each in (second[0][1], second[1][1])] == [[3], [1]]
    assert second[0][0].shape == (1, 5, 4)


@pytest.mark.parametrize(
    "batch",
    [(images(3, 6), boxes(3)), [[*images(3, 6)], [*boxes(3)]], {"images": images(3, 6), "boxes": boxes(3)}],
    ids=["tuples", "lists", "dict"],
)
def test_three_images_of_three_channels_are_cut_as_their_boxes_are(batch: Any) -> None:
    *_, last = deep_split(batch, 1)
    shown, found = last.values() if isinstance(last, dict) else last
    assert [each.shape for each in shown] == [(3, 6, 5)]
    assert len(found) == 1


def test_two_images_and_their_boxes_are_cut_between_samples() -> None:
    _, second = deep_split((images(2), boxes(2)), 1)
    assert (second[0][0].shape, len(second[1])) == ((3, 5, 5), 1)


def test_images_are_never_cut_into_their_channels() -> None:
    batch = [*images(3, 6)], torch.arange(3)  # as many images as they have channels
    with pytest.raises(ParamsError, match=r"may hold a sample in each entry .* \['entries', 'entries'\]"):
        deep_split(batch, 2)
    first, second = deep_split(batch, 2, ["entries", 0])
    assert [len(part[0]) for part in (first, second)] == [2, 1]
    assert second[0][0] is batch[0][2]


def test_a_mapping_that_is_no_dict_is_moved_and_cut() -> None:
    batch = Encoding({"ids": torch.ones(3, 2), "mask": torch.ones(3, 2)})
    moved = deep_to(batch, torch.float64)
    assert type(moved) is Encoding
    assert moved["ids"].dtype is torch.float64
    first, second = deep_split(batch, 2)
    assert type(second) is Encoding
    assert (len(first["ids"]), len(second["mask"])) == (2, 1)
    assert len(batch["ids"]) == 3


def test_arrays_and_sparse_tensors_are_cut() -> None:
    _, second = deep_split({"x": torch.ones(3), "names": numpy.array(["a", "b", "c"])}, 2)
    assert second["names"].tolist() == ["c"]
    _, second = deep_split((torch.eye(3).to_sparse(), torch.ones(3)), 2)
    assert second[0].to_dense().tolist() == [[0, 0, 1]]


def test_what_moves_and_cannot_be_cut_is_not_given_to_every_part() -> None:
    with pytest.raises(ArgusError, match="cannot cut a Graph; .*split_window"):
        deep_split((Graph(), torch.ones(4)), 2)
