"""TOML of any origin takes no more memory than its text, and no more time."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from argus_core.files.toml import parse

pytestmark = pytest.mark.torchfree

HOSTILE = {
    "a dotted key": ("a." * 100_000 + "a = 1", "a key has 100,001 parts, and 64 is the most"),
    "quoted parts": ('"a".' * 100_000 + "a = 1", "a key has 100,001 parts"),
    "parts with blanks": ("a . " * 1000 + "a = 1", "a key has 1,001 parts"),
    "a section": (f"[{'a.' * 1000}a]", "a key has 1,001 parts"),
    "a key in a table": (f"x = {{ {'a.' * 1000}a = 1 }}", "a key has 1,001 parts"),
    "arrays": ("x = " + 100_000 * "[", "nested too deeply"),
    "tables": ("x = " + 10_000 * "{a=", "nested too deeply"),
    "digits": ("x = " + 5000 * "9", "an integer has thousands of digits"),
    "a rate beyond floats": ("x = 1e400", "the number 1e400 is beyond the largest"),
    "a long text": ("#" * 2**21, "2,097,152 characters, and 1,048,576 is the most"),
    "a key as long as the text": (f"[{'a' * 2**18}]\n[{'a' * 2**18}]", r" \.\.\. .*line 2"),
    "a key after quotes in a string": (
        'x = { a = """b"""", ' + "a." * 1000 + "c = 1 }",
        "a key has 1,001 parts",
    ),
    "a key after other quotes": ("x = { a = '''b''''', " + "a." * 1000 + "c = 1 }", "a key has 1,001 parts"),
    "a long key of many values": (
        f"[{'k' * 500_000}]\n" + "".join(f"a{index}=1\n" for index in range(50_000)),
        "a key has 500,000 characters, and 1,000 is the most",
    ),
    "a long key through tables in arrays": (
        f"x = [{{ {'k' * 500} = [{{ {'k' * 500} = 1 }}] }}]",
        "1,003 char",
    ),
    "strings that do not end": ('\\"' * 500_000, "Invalid statement"),
    "long strings that do not end": ('"""\\' * 250_000, "Expected '='"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_text_that_would_take_far_more_memory_than_it_has_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert len(str(caught.value)) < 300


def test_refusing_a_key_of_many_parts_takes_no_memory() -> None:
    code = (
        "import resource; from argus_core.files.toml import parse\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: parse('a.' * 100_000 + 'a = 1')\n"
        "except ValueError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)"
    )
    limit = (2**30, resource.RLIM_INFINITY)
    result = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    assert int(result.stdout) < 20_000  # KiB


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"' + 200 * "a." + '"', 200 * "a."),
        ("'" + 200 * "[" + "'", 200 * "["),
        ('"""\n' + 200 * "{" + '\\""""""', 200 * "{" + '"""'),
        ("1 # " + 200 * "a.", 1),
        ("inf", float("inf")),
        ("[" + "1.5, " * 1000 + "]", [1.5] * 1000),
        ("[" + '["a", { b = [1] }], ' * 500 + "]", [["a", {"b": [1]}]] * 500),
        ("0xffffffffffffffff", 2**64 - 1),
    ],
)
def test_what_only_looks_deep_or_long_is_read(text: str, value: object) -> None:
    assert parse(f"x = {text}")["x"] == value
