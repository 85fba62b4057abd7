"""The contract of a reader."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from argus_core.data.readers import SORTS
from argus_core.prediction.readers import build_reader
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect, sent_to_workers
from argus_core.testing.fresh_process import in_fresh_process
from argus_core.testing.operations import samples_of_file

__all__ = ["ReaderContract"]


class ReaderContract(Contract):
    """The contract of a reader: it gives the samples of a file with names, and says what it cannot read."""

    kind = "reader"
    checks = (
        *FIRST_CHECKS,
        "state_its_suffixes",
        "read_an_example",
        "give_the_same_samples_twice",
        "name_each_sample",
        "count_its_samples",
        "refuse_an_empty_file",
        "refuse_a_damaged_file",
        "be_sent_to_worker_processes",
        "load_in_a_fresh_process",
    )
    essential = (*Contract.essential, "read_an_example")
    options = MappingProxyType({"file": None, "columns": None})

    def be_built(self) -> None:
        self.reader = build_reader(self.spec, self.label)
        self.reader.columns = self.options["columns"]

    def state_its_suffixes(self) -> None:
        suffixes = self.reader.suffixes
        expect(
            isinstance(suffixes, tuple)
            and bool(suffixes)
            and all(
                isinstance(each, str) and each == each.lower() and each[:1] == "." and "/" not in each
                for each in suffixes
            ),
            f'its suffixes are {suffixes!r}; give a tuple of lower-case suffixes, such as (".jpg",)',
        )
        expect(
            self.reader.sort in SORTS, f"its sort is {self.reader.sort!r}; choose one of {', '.join(SORTS)}"
        )

    def read_an_example(self) -> None:
        expect(
            callable(self.options["file"]),
            "it has no example file; pass file=..., a function that writes one to the path that it is given, "
            "or declare checked_with = {'file': ...} on the class",
        )
        with self._example() as path:
            self.samples = samples_of_file(self.spec, path, self.options["columns"])
        expect(bool(self.samples), "the example gives no samples; write a file of one or more")

    def give_the_same_samples_twice(self) -> None:
        with self._example() as path:
            again = [(name, load()) for name, load in self.reader.samples(path)]
        self._compare(again, "read again", "keep no state between files")

    def name_each_sample(self) -> None:
        names = [name for name, _ in self.samples]
        if self.reader.is_single:
            expect(names == [""], f'it is_single, and gives the names {names!r}; give one sample, named ""')
            return
        expect(
            all(isinstance(name, str | int) and name != "" for name in names),
            f"its names are {names!r}; give the row of each sample, counted from 1, or its id",
        )

    def count_its_samples(self) -> None:
        with self._example() as path:
            count = self.reader.count(path)
        most = 2 * len(self.samples) + 2  # a header, empty lines: the display of progress may be a little off
        expect(
            count is None or (type(count) is int and len(self.samples) <= count <= most),
            f"it counts {count!r} samples, and gives {len(self.samples)}; correct count, or leave it out",
        )

    def refuse_an_empty_file(self) -> None:
        with self._example() as path:
            Path(path).write_bytes(b"")
            found = self._outcome(path)
        expect(
            all(isinstance(each, Exception) for each in found),
            "it gives a sample of an empty file; raise an exception that says what is wrong",
        )

    def refuse_a_damaged_file(self) -> None:
        with self._example() as path:
            content = Path(path).read_bytes()
            for damaged in (content[: len(content) // 2], bytes(len(content)), content[::-1]):
                Path(path).write_bytes(damaged)
                for error in self._outcome(path):
                    expect(
                        not isinstance(error, MemoryError | RecursionError),
                        f"of a damaged file it raises {type(error).__name__}; check sizes before using them",
                    )

    def be_sent_to_worker_processes(self) -> None:
        sent = sent_to_workers(self.reader, "open files in samples only, and store no lambdas")
        with self._example() as path:
            found = [(name, load()) for name, load in sent.samples(path)]
        self._compare(found, "in another process", "let pickle store everything that it needs")
        sent_to_workers([value for _, value in self.samples], "give samples that pickle can store")

    def load_in_a_fresh_process(self) -> None:
        with self._example() as path:
            found = in_fresh_process("samples_of_file", self.spec, path, self.options["columns"])
        self._compare(found, "chosen by name in a fresh process", "let it depend on nothing else")

    @contextmanager
    def _example(self) -> Iterator[str]:
        """Yield the path of a new example file."""
        with tempfile.TemporaryDirectory(prefix="argus-") as folder:
            suffix = self.reader.suffixes[0] if self.reader.suffixes else ""
            path = str(Path(folder, f"example{suffix}"))
            self.options["file"](path)
            yield path

    def _outcome(self, path: str) -> list[Any]:
        """Return what a damaged file gives: samples, or the exceptions of an ordinary sort."""
        found: list[Any] = []
        try:
            for _, load in self.reader.samples(path):
                try:
                    found.append(load())
                except Exception as error:
                    found.append(error)
        except Exception as error:
            found.append(error)
        return found

    def _compare(self, found: Any, what: str, action: str) -> None:
        problem = difference(found, self.samples, where="a sample")
        expect(problem is None, f"{what} {problem}; {action}")
