"""Whatever names, params and messages hold: what every command writes to a terminal or a log is printable."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from crafted import crafted
from hypothesis import given, strategies
from networks import Net
from planned_runs import planned_run, small_model
from small_runs import points, small_config, small_registry

import argus_core
from argus_core import Callback, State, cli, on_epoch_complete
from argus_core.callbacks import LoggingToCSV, LoggingToFile, MetricsJSONL, Progress
from argus_core.cli import plugins
from argus_core.errors import ArgusError, ArgusWarning
from argus_core.registry.discovery import scan
from argus_core.text import escape_json, one_line, printable

# An escape sequence, its one-byte form, a title, a bell, a DEL, a carriage return, text that runs backwards,
# nothing, a line separator and a lone surrogate. What follows a line break here would be a forged line.
EVIL = "\x1b[31m\x9b2J\x1b]0;title\x07\x7f\r\u202e\u200b\u2028\udc80"
FORGED = f"{EVIL}\nerror: forged\r\nforged"
# Of what cannot hold a line break.
NAME = "\x1b[31m\x9b2J\x07\x7f\u202e\u200bn"
RUN = "run\x1b[31m\nforged"
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def assert_printable(text: str) -> None:
    assert not RAW.search(text), repr(text)
    assert not re.search(r"^(error: )?forged", text, re.MULTILINE), text


def argus(*args: str | Path, **options: Any) -> Result:
    result = CliRunner().invoke(cli.main, list(map(str, args)), **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


SOURCE = f'''
import torch

class Evil(torch.nn.Module):
    """Is {NAME!s}.

    Says [red]red[/red].
    """

    def __init__(self, first={FORGED!r}, second=1.0):
        super().__init__()

    def forward(self, prediction, target):
        return prediction.sum()

def broken():
    raise ValueError({FORGED!r})
'''
BROKEN = f"raise ValueError({FORGED!r})"


@pytest.fixture
def hostile(fake_distribution: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a hostile package, checkpoint and run directory."""
    fake_distribution(
        "evil",
        "1.0",
        {
            "loss": {
                f"evil{NAME}": "evil:Evil",
                "bro\x1bken": f"evil_broken{NAME}:Evil",
                "imports": "worse:Evil",
            },
            "command": {f"do{NAME}": "evil:Evil", "[red]go[/red]": "evil:Evil"},
            f"loss{NAME}": {"lost": "evil:Evil"},
            "removed": {f"loss.gone{NAME}": NAME},
        },
        {"evil": SOURCE, "worse": BROKEN},
    )
    folder = fake_distribution("named", "1.0", {"loss": {"x": "x:X"}})
    (folder / "named-1.0.dist-info/METADATA").write_text(f"Name: na{NAME}med\nVersion: 1{NAME}\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    with small_registry():
        assert argus("train", small_config(tmp_path), "--run-dir", RUN).exit_code == 0
    spoil_run(tmp_path / RUN)
    with argus_core.isolated_registry() as registry:
        registry.update(scan([*fake_distribution.path, *sys.path]))
        registry.register("nn_module", "net", Net)
        registry.register("dataset", "points", points)
        yield tmp_path


def spoil_run(run: Path) -> None:
    best = run / "checkpoints/best.safetensors"
    best.with_name("evil.safetensors").write_bytes(crafted(best.read_bytes(), spoil))
    versions = json.loads((run / "versions.json").read_text())
    (run / "versions.json").write_text(json.dumps({**versions, "providers": {FORGED: FORGED}}))


def spoil(_: Any, manifest: Any) -> None:
    record = manifest["components"]["loss"]
    record.update({key: f"{value}{FORGED}" for key, value in record.items() if key != "kind"})
    manifest["components"]["nn_module"]["version"] = FORGED
    manifest["versions"] = dict.fromkeys(("argus", "torch", "python"), FORGED)
    manifest["params"][FORGED] = {"nested": [FORGED, {"$dict": [[FORGED, FORGED]]}]}


TOML = escape_json(json.dumps(f"evil{NAME}"))
FILE = f"{RUN}/checkpoints/evil.safetensors"
COMMANDS = [
    ["--help"],
    [FORGED],
    ["--" + FORGED],
    ["train", FORGED.replace("\udc80", "")],
    ["train", "small.toml", "--set", f"optimizer.lr='{NAME}'"],
    ["train", "small.toml", "--set", f"loss={TOML}", "--run-dir", "other"],
    ["train", "small.toml", "--set", f"optimizer={TOML}", "--run-dir", "another"],
    ["train", "small.toml", "--set", f"{NAME}=1"],
    ["train", "small.toml", "--run-dir", f"new{NAME}\nforged", "--set", "num_epochs=1"],
    ["train", "small.toml", FORGED],
    ["resume", RUN, "--set", "num_epochs=4"],
    ["resume", RUN, "--set", "loss='lost'"],
    ["resume", FORGED],
    ["list"],
    ["list", "--json"],
    ["list", FORGED],
    ["show", "loss", f"evil{NAME}"],
    ["show", "loss", f"evil{NAME}", "--json"],
    ["show", "loss", "imports"],
    ["show", "loss", f"gone{NAME}"],
    ["show", FORGED, FORGED],
    ["explain", "small.toml", "--set", f"loss={TOML}"],
    ["explain", FORGED],
    ["summary", "small.toml"],
    ["summary", "small.toml", "--set", f"loss={TOML}"],
    ["summary", FILE, "--input-shape", FORGED],
    ["summary", FORGED],
    ["inspect", FILE],
    ["inspect", FILE, "--json"],
    ["inspect", FORGED],
    ["predict", FILE, "points"],
    ["predict", f"{RUN}/checkpoints/best.safetensors", "points", "--output", f"a{NAME}\nforged.npz"],
    ["predict", FILE, "points", "--param", FORGED],
    ["predict", FILE, f"x{FORGED}.npy"],
    ["convert", FILE, f"out{NAME}.safetensors"],
    ["convert", FILE, FORGED],
    ["export", FILE, f"out{NAME}\nforged.safetensors"],
    ["export", FILE, f"out{NAME}\nforged.safetensors"],
    ["new-plugin", FORGED],
    ["init", FORGED],
    ["new-plugin", "medplug", "--directory", f"there{NAME}\nforged"],
    ["plugins", FORGED],
    ["plugins", "list"],
    ["plugins", "list", "--json"],
    ["plugins", "why", f"evil{NAME}"],
    ["plugins", "why", f"evil{NAME}", "--json"],
    ["plugins", "why", "loss", f"gone{NAME}"],
    ["plugins", "why", FORGED],
    ["plugins", "doctor", "--provider", "evil", "--provider", "named"],
    ["plugins", "doctor", "--provider", "evil", "--json"],
    ["plugins", "doctor", "--provider", FORGED],
    ["plugins", "doctor", FILE],
    ["plugins", "doctor", FILE, "--json"],
    ["plugins", "validate", "evil", "--kind", "command"],
    ["plugins", "validate", "evil", "--kind", "command", "--json"],
    ["plugins", "validate", FORGED],
]  # fmt: skip


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("hostile")
def test_no_command_writes_what_is_not_printable() -> None:
    called = set()
    for args in COMMANDS:
        result = argus(*args)
        called.add(" ".join(args[:2]) if args[0] == "plugins" else args[0])
        assert_printable(result.output)
        if "--json" in args and result.stdout:
            json.loads(result.stdout)
    alone = {name for name in cli.main.names if name != "plugins"}
    assert called >= alone | {f"plugins {name}" for name in plugins.command.names}


def test_nothing_else_in_the_package_writes_to_a_terminal() -> None:
    """The exceptions escape by themselves."""
    writes = re.compile(r"click\.s?echo|\bprint\(|sys\.std(out|err)\.write|\bConsole\(")
    package = Path(argus_core.__file__).parent
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if writes.search(line) and ">>>" not in line and "... " not in line
    }
    assert found == {"cli/output.py", "cli/table.py", "callbacks/progress.py"}


@pytest.mark.parametrize("error", [ArgusError, ValueError])
def test_traceback_is_printable(error: type[Exception], tmp_path: Path) -> None:
    code = (
        "from argus_core.cli import main\n"
        "from argus_core.errors import ArgusError\n"
        f"def fail(**_): raise {error.__name__}({EVIL!r})\n"
        "main.get_command(None, 'list').callback = fail\n"
        "main(['list', '--traceback'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=tmp_path)
    text = done.stderr.decode()
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in text
    assert error.__name__ in text
    assert_printable(text)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("category", [ArgusWarning, UserWarning])
def test_warnings_are_printable(category: type[Warning], tmp_path: Path) -> None:
    code = (
        "import warnings\n"
        "from argus_core.cli import main\n"
        "from argus_core.errors import ArgusWarning\n"
        f"def warn(**_): warnings.warn({EVIL!r}, {category.__name__})\n"
        "main.get_command(None, 'list').callback = warn\n"
        "main(['list'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path)
    assert b"31m" in done.stderr
    assert_printable(done.stderr.decode())


def test_sentences_on_a_terminal_are_broken_between_words_but_not_within_a_command() -> None:
    code = (
        "import warnings\n"
        "from argus_core.cli import main\n"
        "from argus_core.errors import ArgusError, ArgusWarning\n"
        "def fail(**_):\n"
        "    warnings.warn('many words ' * 9, ArgusWarning)\n"
        "    words = 'some-plugin some-plugin some-plugin; or ' + 'leave it ' * 9\n"
        "    raise ArgusError(f'many words, then a command: pip install {words}')\n"
        "main.get_command(None, 'list').callback = fail\n"
        "main(['list'])\n"
    )
    controller, terminal = os.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", code], check=False, env=environment, stderr=terminal)
    written = os.read(controller, 10_000).decode().splitlines()
    os.close(terminal)
    os.close(controller)
    assert len(written) == 5
    assert max(map(len, written)) <= 80
    assert any(line.startswith("pip install some-plugin some-plugin some-plugin") for line in written)


def test_what_loggers_without_a_handler_say_is_one_printable_line() -> None:
    from argus_core.cli.torch_command import TorchCommand

    logger = logging.getLogger("argus_core.of_this_test")
    logger.propagate = False
    command = TorchCommand("log", callback=lambda: logger.warning("saved %s", FORGED))
    result = CliRunner().invoke(command)
    assert result.stderr.startswith("saved ")
    assert result.stderr.count("\n") == 1
    assert_printable(result.stderr)


@pytest.mark.parametrize(
    "text",
    [
        "größe naïve",
        "漢字 かな 한국어",
        "שלום العربية",
        "e\u0301 q\u0307\u0323",
        "👩\u200d🔬 ❤\ufe0f 🏳\ufe0f\u200d🌈",
        "می\u200cخواهم",
        "क्\u200dष",
        "a\u00a0b 全\u3000角",
    ],
)
def test_text_of_all_languages_stays_as_it_is(text: str) -> None:
    assert printable(text) == one_line(text) == text


HIDING = ["a\u200db", "\u200cx", "ab\u200d", "é\u200d\u200dé", "\u2066x", "\ue000", "\U000e0041", "\u00ad"]


@pytest.mark.parametrize("text", HIDING)
def test_what_could_only_hide_is_escaped(text: str) -> None:
    assert printable(text).isprintable()


@given(strategies.text())
def test_whatever_the_text_it_is_printable_and_one_line(text: str) -> None:
    assert not RAW.search(printable(text))
    assert len(one_line(text).splitlines()) <= 1
    assert printable(printable(text)) == printable(text)


# Logs and reports, with metrics that a stranger's callback has named.

METRICS = {f"{NAME}\n2026-01-05 10:00:00,000 INFO forged": 0.5, "[red]bold[/red] [link=http://x]": 1.0}


class Named(Callback):
    def epoch_complete(self, state: State) -> None:
        state.metrics.update(METRICS)
        state.logger.info("saved %s\n%s", FORGED, FORGED)


def fail(state: State) -> None:
    raise ValueError(f"{FORGED}\n2026-01-05 10:00:00,000 INFO forged")


def lines_of(path: Path) -> list[str]:
    text = path.read_bytes().decode("utf-8")
    assert_printable(text)
    return text.splitlines()


def test_log_has_one_line_for_each_record_whatever_its_values(tmp_path: Path) -> None:
    with small_model() as model:
        planned_run(model, [0.5], Named(), LoggingToFile(tmp_path / "log.txt"))
    lines = lines_of(tmp_path / "log.txt")
    assert len(lines) == 4
    assert all(re.match(r"20\d\d-\d\d-\d\d .* INFO (train |epoch 1/1|saved )", line) for line in lines)


def test_traceback_in_a_log_passes_for_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest would put the record into its report, which cannot hold a lone surrogate.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    plain, log = logging.Formatter(), tmp_path / "log.txt"

    def fail_and_log(state: State) -> None:
        try:
            fail(state)
        except ValueError as error:
            record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, (type(error), error, None))
            plain.format(record)  # as another handler would, before this one
            record.stack_info = FORGED
            state.logger.handle(record)
            raise

    with small_model() as model, pytest.raises(ValueError, match="forged"):
        planned_run(model, [0.5], on_epoch_complete(fail_and_log), LoggingToFile(log))
    lines = lines_of(log)
    assert sum(re.match(r"\S", line) is not None for line in lines) == 3
    assert sum("ValueError: " in line for line in lines) == 2


def test_csv_and_jsonl_are_printable_and_have_a_line_for_each_epoch(tmp_path: Path) -> None:
    with small_model() as model:
        writers = [LoggingToCSV(tmp_path / "metrics.csv"), MetricsJSONL(tmp_path / "metrics.jsonl")]
        planned_run(model, [0.5, 0.25], Named(), *writers)
    header, *rows = lines_of(tmp_path / "metrics.csv")
    assert (len(rows), header.count(",")) == (2, 6)
    first, _ = lines_of(tmp_path / "metrics.jsonl")
    assert json.loads(first).keys() >= METRICS.keys()


def test_progress_is_printable_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with small_model() as model:
        planned_run(model, [0.5], Named(), Progress(table=True))
    written = capsys.readouterr().out
    assert_printable(written)
    assert written.count("\n") == 4
    assert "[red]bold[/red]" in written


def test_progress_on_a_terminal_shows_names_as_they_are_and_no_sequence_of_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "1000")
    terminal = Terminal()
    with redirect_stdout(terminal), small_model() as model:
        planned_run(model, [0.5, 0.25], Named(), Progress(table=True, interval=1e-9))
    # The sequences of the bar and the table, which rich writes.
    written = re.sub(r"\x1b\[(\?25[lh]|\d*[AK]|[\d;]*m)|\r", "", terminal.getvalue())
    assert_printable(written)
    assert "\x1b[31m" not in terminal.getvalue()
    assert "\x1b]8" not in terminal.getvalue()
    assert "[red]bold[/red] [link=http://x]" in written


# What is long.


LONG = "n" * 5000


@pytest.mark.parametrize(
    "text", [LONG, "a " * 50_000, f"no loss named {LONG!r}; give another", "\x1b" * 10**6]
)
def test_long_text_keeps_its_beginning_and_its_end(text: str) -> None:
    told = one_line(text)
    assert len(told) <= 41_000  # each character may be escaped
    assert told.startswith(one_line(text[:60]))
    assert told.endswith(one_line(text[-9:]))
    assert "characters) …" in told


@pytest.mark.parametrize("text", ["/folder" * 140, "word " * 1999, "\n".join(["a line" * 100] * 200)])
def test_paths_and_sentences_are_not_cut(text: str) -> None:
    assert printable(text) == text


def test_each_line_of_a_long_text_is_cut_by_itself() -> None:
    first, second, third = printable(f"short\n{LONG}\nshort").split("\n")
    assert (first, third) == ("short", "short")
    assert second == f"{'n' * 100}… (5,000 characters) …{'n' * 100}"


@pytest.mark.parametrize("kind", [ArgusError, argus_core.CheckpointError, ArgusWarning])
def test_messages_of_exceptions_are_cut_and_their_arguments_whole(kind: type[Exception]) -> None:
    error = kind(f"no loss named {LONG!r}; give another")
    assert len(str(error)) < 300
    assert str(error).startswith("no loss named 'nnn")
    assert str(error).endswith("nnn'; give another")
    assert LONG in error.args[0]


COMMANDS_OF_LONG_NAMES = [
    [LONG],
    ["--" + LONG],
    ["list", LONG],
    ["list"],
    ["show", "loss", LONG],
    ["show", LONG],
    ["show", LONG, LONG],
    ["explain", LONG],
    ["inspect", LONG],
    ["train", "small.toml", "--set", f"loss={json.dumps(LONG)}"],
    ["train", "small.toml", "--set", f"{LONG}=1"],
    ["plugins", "list"],
    ["plugins", LONG],
    ["plugins", "why", LONG],
    ["plugins", "why", f"{LONG}/{LONG}"],
    ["plugins", "validate", LONG],
    ["plugins", "doctor", "--provider", LONG],
    ["new-plugin", LONG],
]


@pytest.mark.parametrize("args", COMMANDS_OF_LONG_NAMES, ids=lambda args: " ".join(args)[:30])
def test_no_command_repeats_a_name_of_thousands_of_characters(
    fake_distribution: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    fake_distribution("long", "1.0", {"loss": {"n" * 1900: "long:Loss"}, f"l{'o' * 1500}ss": {"a": "b:c"}})
    small_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    with small_registry():
        argus_core.registry.registry.active().update(scan([*fake_distribution.path, *sys.path]))
        result = argus(*args)
    assert not re.search("n{1001}", result.output)
    assert max(map(len, result.output.splitlines())) <= 10_500
