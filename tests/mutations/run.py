"""Breaks each rule of `table.py` in a copy of the package, and sees its test fail.

    python tests/mutations/run.py [WORD ...]

Words choose the mutations in whose rule, file or test one of them stands. First the unchanged copy must pass
all the tests. Then each changed copy must fail its own, by what it found and not because it could not start.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch._dynamo  # noqa: F401
from table import MUTATIONS, Mutation

# torch is imported once, with the part that optimizers import in their first step. Each process that runs a
# test is forked from this one, so it is ready in a moment, and argus_core is not imported yet.

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
PACKAGE = "argus_core"
LIMIT = 300.0  # seconds for one test
PASSED, FAILED, BROKEN = range(3)


class Watch:
    """Tells a test that failed from one that could not run, which for pytest are the same."""

    def __init__(self) -> None:
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed and report.when == "call"


def main(words: Sequence[str]) -> int:
    """Try the chosen mutations; return how many were not caught."""
    chosen = [
        mutation
        for mutations in MUTATIONS.values()
        for mutation in mutations
        if not words or any(word in f"{mutation.rule} {mutation.file} {mutation.test}" for word in words)
    ]
    if not chosen:
        sys.exit(f"no mutation has {' or '.join(words)} in its rule, file or test")
    start = time.monotonic()
    print(f"{len(chosen)} mutations; first the tests on an unchanged copy", flush=True)
    outcome, output = attempt(sorted({mutation.test for mutation in chosen}))
    if outcome != PASSED:
        print(output)
        return 1
    missed = sum(not is_caught(mutation) for mutation in chosen)
    print(f"{len(chosen) - missed} caught, {missed} not, in {time.monotonic() - start:.0f} s")
    return missed


def is_caught(mutation: Mutation) -> bool:
    """Return whether the mutation's test fails, and print what came of it."""
    outcome, output = attempt([mutation.test], mutation)
    verdict = {PASSED: "NOT CAUGHT", FAILED: "caught", BROKEN: "BROKEN"}[outcome]
    print(f"{verdict:10}  {mutation.rule}\n{'':12}{mutation.test}", flush=True)
    if outcome == BROKEN:
        print(output)
    return outcome == FAILED


def attempt(tests: Iterable[str], mutation: Mutation | None = None) -> tuple[int, str]:
    """Run tests on a copy of the package, changed or not; return the outcome and what pytest printed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / PACKAGE, copy / PACKAGE)
        if mutation is not None:
            change(copy / PACKAGE / mutation.file, mutation)
        log = copy / "pytest.log"
        process = multiprocessing.get_context("fork").Process(target=run_tests, args=(copy, list(tests), log))
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
        output = log.read_text("utf-8", errors="replace")
        return (process.exitcode if process.exitcode in (PASSED, FAILED) else BROKEN), output


def change(path: Path, mutation: Mutation) -> None:
    """Replace the old text by the new one."""
    source = path.read_text("utf-8")
    if source.count(mutation.old) != 1:
        sys.exit(
            f"{mutation.file} has {source.count(mutation.old)} times what {mutation.rule!r} replaces, "
            "and should have it once; update tests/mutations/table.py"
        )
    path.write_text(source.replace(mutation.old, mutation.new), "utf-8")


def run_tests(copy: Path, tests: list[str], log: Path) -> None:
    """Run tests in this process, importing from ``copy`` first of all; exit with the outcome."""
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)  # for the processes that tests start
    watch = Watch()
    with log.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        without = [
            f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "pytest_cov", "xdist")
        ]
        code = pytest.main(
            ["-xq", *without, f"--rootdir={ROOT}", *(str(TESTS / test) for test in tests)], plugins=[watch]
        )
        file.flush()
    found = {pytest.ExitCode.OK: PASSED, pytest.ExitCode.TESTS_FAILED: FAILED if watch.failed else BROKEN}
    os._exit(found.get(pytest.ExitCode(code), BROKEN))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
