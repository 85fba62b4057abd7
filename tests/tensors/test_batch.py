"""Batches: moved, detached, cut and put together again, whatever containers they are in."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from argus_core import ArgusError
from argus_core.tensors.batch import batch_size, deep_chunk, deep_detach, deep_split, deep_to
from argus_core.tensors.joining import deep_cat


class Pair(NamedTuple):
    image: Any
    mask: Any


class Tagged(dict[str, Any]):
    """A dict that carries something of its own."""

    tag = ""


class Movable:
    """What is no tensor and knows how to move, as graph batches do."""

    device = "cpu"

    def to(self, device: Any, **options: Any) -> Movable:
        moved = Movable()
        moved.device = str(device)
        return moved


def packed() -> PackedSequence:
    return pack_sequence([torch.arange(3.0), torch.arange(2.0)])


def same(left: Any, right: Any) -> bool:
    """Return whether two batches are equal, types of containers included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, tuple | list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def test_deep_to_converts_every_tensor_and_keeps_every_container() -> None:
    batch = (torch.ones(2), [torch.ones(1)], {"x": torch.ones(3)}, Pair(torch.ones(1), None), "name", 7)
    converted = deep_to(batch, torch.float64)
    double = torch.float64
    expected = (
        torch.ones(2, dtype=double),
        [torch.ones(1, dtype=double)],
        {"x": torch.ones(3, dtype=double)},
        Pair(torch.ones(1, dtype=double), None),
        "name",
        7,
    )
    assert same(converted, expected)


def test_deep_to_takes_the_arguments_of_tensor_to() -> None:
    (moved,) = deep_to([torch.ones(2)], torch.device("meta"), non_blocking=True, copy=True)
    assert moved.device.type == "meta"


def test_deep_to_moves_whatever_has_to() -> None:
    moved, sequence = deep_to((Movable(), packed()), torch.device("meta"))
    assert moved.device == "meta"
    assert isinstance(sequence, PackedSequence)
    assert sequence.data.device.type == "meta"


def test_deep_to_keeps_subclasses_of_dict_with_what_they_carry() -> None:
    counts: defaultdict[str, Any] = defaultdict(list)
    counts["x"] = torch.ones(1)
    tagged = Tagged(x=torch.ones(1))
    tagged.tag = "train"
    ordered: dict[str, Any] = OrderedDict(b=torch.ones(1), a=torch.ones(1))
    counts, tagged, ordered = deep_to([counts, tagged, ordered], torch.float64)
    assert counts.default_factory is list
    assert type(tagged) is Tagged
    assert tagged.tag == "train"
    assert list(ordered) == ["b", "a"]
    assert {each.dtype for part in (counts, tagged, ordered) for each in part.values()} == {torch.float64}


def test_deep_to_leaves_the_batch_itself_alone() -> None:
    batch: defaultdict[str, Any] = defaultdict(list, {"x": torch.ones(1)})
    deep_to(batch, torch.float64)
    assert batch["x"].dtype == torch.float32


def test_deep_to_keeps_the_named_results_of_torch_functions() -> None:
    largest = torch.ones(2, 3).max(dim=1)
    assert type(deep_to(largest, torch.float64)) is type(largest)


def test_deep_detach_cuts_every_tensor_from_the_graph() -> None:
    on_graph = torch.ones(2, requires_grad=True) * 2
    sequence = pack_sequence([on_graph, on_graph])
    detached = deep_detach({"a": (on_graph, Pair(on_graph, "name")), "b": sequence})
    assert type(detached["a"][1]) is Pair
    assert type(detached["b"]) is PackedSequence
    tensors = [detached["a"][0], detached["a"][1].image, detached["b"].data]
    assert not any(tensor.requires_grad for tensor in tensors)
    assert on_graph.requires_grad


def test_deep_detach_keeps_every_container() -> None:
    batch = (torch.ones(2), [torch.ones(1)], {"x": torch.ones(3)}, Pair(torch.ones(1), None), "name", 7)
    assert same(deep_detach(batch), batch)


def test_deep_detach_asks_objects_that_can_detach_themselves() -> None:
    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

        def detach(self) -> Output:
            return Output(self.logits.detach())

    logits = nn.Parameter(torch.ones(2)) * 2
    assert not deep_detach([Output(logits)])[0].logits.requires_grad


@pytest.mark.parametrize(
    ("samples", "chunks", "sizes"),
    [(6, 3, [2, 2, 2]), (7, 3, [3, 3, 1]), (5, 4, [2, 2, 1]), (2, 5, [1, 1]), (3, 1, [3]), (0, 2, [0])],
)
def test_deep_chunk_cuts_as_torch_chunk_does(samples: int, chunks: int, sizes: list[int]) -> None:
    tensor = torch.arange(samples * 2).reshape(samples, 2)
    parts = deep_chunk(tensor, chunks)
    assert [len(part) for part in parts] == sizes
    if samples:
        assert all(map(torch.equal, parts, tensor.chunk(chunks)))


def test_deep_chunk_cuts_along_another_dimension() -> None:
    left, right = deep_chunk({"x": torch.arange(8).reshape(2, 4)}, 2, dim=1)
    assert left["x"].tolist() == [[0, 1], [4, 5]]
    assert right["x"].tolist() == [[2, 3], [6, 7]]


def test_deep_chunk_takes_at_least_one_chunk() -> None:
    with pytest.raises(ArgusError, match="cannot cut a batch into 0 chunks; give at least 1"):
        deep_chunk(torch.ones(4), 0)


def test_what_has_one_entry_per_sample_is_cut_and_the_rest_goes_into_every_part() -> None:
    batch = {
        "x": torch.arange(3),
        "path": ["a.png", "b.png", "c.png"],
        "text": ("a", "b", "c"),
        "classes": ["cat", "dog"],
        "phase": "train",
        "scale": torch.tensor(0.5),
    }
    first, second = deep_split(batch, 2)
    assert first["path"] == ["a.png", "b.png"]
    assert second["path"] == ["c.png"]
    assert second["text"] == ("c",)
    for part in (first, second):
        assert part["classes"] == ["cat", "dog"]
        assert part["phase"] == "train"
        assert part["scale"] is batch["scale"]


def test_deep_chunk_keeps_every_container() -> None:
    pair = Pair(torch.arange(2), [torch.arange(2)])
    expected = (Pair(torch.tensor([1]), [torch.tensor([1])]), {"x": torch.tensor([1])})
    assert same(deep_chunk((pair, {"x": torch.arange(2)}), 2)[1], expected)


def test_a_namedtuple_is_a_structure_even_with_as_many_fields_as_samples() -> None:
    first, second = deep_split((torch.arange(2), Pair("image", "mask")), 1)
    assert first[1] == second[1] == Pair("image", "mask")
    assert type(first[1]) is Pair


def test_tensors_that_differ_in_size_are_not_cut() -> None:
    with pytest.raises(
        ArgusError, match="tensors have 4 and 3 samples along dimension 0; give them one size"
    ):
        deep_chunk((torch.ones(4), {"y": torch.ones(3)}), 2)


def test_a_packed_sequence_is_not_cut() -> None:
    with pytest.raises(ArgusError, match="cannot cut a packed sequence; pack it in forward_loss"):
        deep_split((packed(), torch.ones(2)), 1)


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.ones(5, 2), 5),
        ({"ids": ["a", "b"], "x": torch.ones(2, 3)}, 2),
        ([torch.tensor(0.5), torch.ones(4)], 4),
        ((packed(), torch.ones(2)), 2),
        (torch.tensor(1.0), 1),
        (["a", "b"], 2),
        (None, 1),
        (torch.ones(0, 3), 0),
    ],
    ids=str,
)
def test_batch_size_is_that_of_the_first_tensor_with_samples(batch: Any, size: int) -> None:
    assert batch_size(batch) == size


def test_deep_cat_of_one_part_is_that_part() -> None:
    part = {"x": torch.ones(2)}
    assert deep_cat([part]) is part


def test_deep_cat_joins_tensors_within_their_containers() -> None:
    left = (torch.tensor([1]), Pair([torch.tensor([2])], {"a": torch.tensor([3])}))
    right = (torch.tensor([4]), Pair([torch.tensor([5])], {"a": torch.tensor([6])}))
    expected = (torch.tensor([1, 4]), Pair([torch.tensor([2, 5])], {"a": torch.tensor([3, 6])}))
    assert same(deep_cat([left, right]), expected)


@pytest.mark.filterwarnings("ignore:Sparse C")  # in beta state
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_rows_of_a_sparse_matrix_are_split(layout: torch.layout) -> None:
    rows = torch.eye(5, 3) + torch.arange(15).view(5, 3)
    parts = deep_split((rows.to_sparse(layout=layout), rows), 2)
    assert [part[0].layout for part in parts] == [layout] * 3
    assert all(torch.equal(sparse.to_dense(), dense) for sparse, dense in parts)


def test_deep_cat_stacks_0d_tensors() -> None:
    assert deep_cat([torch.tensor(1.0), torch.tensor(2.0)]).tolist() == [1, 2]


def test_deep_cat_keeps_what_every_part_has_the_same() -> None:
    assert deep_cat([None, None]) is None
    assert deep_cat([{"phase": "val"}, {"phase": "val"}]) == {"phase": "val"}
    assert deep_cat([1.5, 2.5]) == [1.5, 2.5]


def test_deep_cat_keeps_subclasses_of_dict() -> None:
    parts: list[defaultdict[str, Any]] = [defaultdict(list, {"x": torch.ones(size)}) for size in (1, 2)]
    together = deep_cat(parts)
    assert together.default_factory is list
    assert len(together["x"]) == 3
    assert len(parts[0]["x"]) == 1


def test_deep_cat_puts_dicts_of_each_sample_behind_each_other() -> None:
    boxes = [[{"boxes": torch.ones(count, 4)} for count in counts] for counts in ((1, 3), (2, 2), (5,))]
    assert [len(sample["boxes"]) for sample in deep_cat(boxes)] == [1, 3, 2, 2, 5]


def test_deep_cat_puts_a_varying_number_of_tensors_behind_each_other() -> None:
    parts = [[torch.ones(1), torch.ones(2)], [torch.ones(3)]]
    assert [len(tensor) for tensor in deep_cat(parts)] == [1, 2, 3]


@pytest.mark.parametrize("parts", [[torch.ones(1, 2), torch.ones(1, 3)], [packed(), packed()]])
def test_deep_cat_lists_what_cannot_be_joined(parts: list[Any]) -> None:
    together = deep_cat(parts)
    assert type(together) is list
    assert all(part is given for part, given in zip(together, parts, strict=True))


def leaves(samples: int) -> st.SearchStrategy[Any]:
    tensors = st.lists(st.integers(1, 3), max_size=2).map(
        lambda shape: torch.arange(samples * max(1, torch.Size(shape).numel())).reshape(samples, *shape)
    )
    labels = st.lists(st.text(max_size=3), min_size=samples, max_size=samples)
    return tensors | labels | labels.map(tuple) | st.none() | st.sampled_from(["train", 7, 0.5])


def nested(samples: int) -> st.SearchStrategy[Any]:
    # A container holds at least one tensor: without one, a list is taken for one entry per sample.
    tensor = st.just(torch.arange(samples))
    return st.recursive(
        leaves(samples),
        lambda inner: st.one_of(
            st.tuples(tensor, inner),
            st.builds(lambda first, second: [first, second], inner, tensor),
            st.builds(Pair, tensor, inner),
            st.builds(lambda value, x: {"value": value, "x": x}, inner, tensor),
            st.builds(lambda value, x: OrderedDict(value=value, x=x), inner, tensor),
        ),
        max_leaves=6,
    )


@settings(deadline=None, max_examples=60)  # the time of one example says more about the machine
@given(st.data(), st.integers(1, 7), st.integers(1, 8))
def test_cut_and_joined_again_a_batch_is_the_same(data: st.DataObject, samples: int, size: int) -> None:
    batch = (torch.arange(samples), data.draw(nested(samples)))
    parts = deep_split(batch, size)
    assert [batch_size(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert same(deep_cat(parts), batch)


@settings(deadline=None, max_examples=60)  # the time of one example says more about the machine
@given(st.data(), st.integers(1, 7), st.integers(1, 8))
def test_chunks_are_at_most_as_many_as_asked_for(data: st.DataObject, samples: int, chunks: int) -> None:
    batch = (torch.arange(samples), data.draw(nested(samples)))
    parts = deep_chunk(batch, chunks)
    assert len(parts) <= chunks
    assert sum(map(batch_size, parts)) == samples
    assert same(deep_cat(parts), batch)
