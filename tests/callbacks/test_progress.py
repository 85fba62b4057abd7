"""Progress: plain lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest
import torch
from networks import batches
from planned_runs import planned_engine, planned_run, small_model

from argus_core import BuildError, Callback, Engine, Model, ParamsError, State
from argus_core.callbacks import EarlyStopping, Progress
from argus_core.callbacks.epoch_report import EpochRecord, format_midway, format_number, format_record
from argus_core.callbacks.midway import MidwayRecord
from argus_core.callbacks.pace import Pace
from argus_core.callbacks.progress_table import epoch_table


@pytest.fixture
def model() -> Iterator[Model]:
    with small_model() as model:
        yield model


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def frames(self) -> list[str]:
        """What was shown on a line, one after the other."""
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    return Terminal()


def test_prints_a_line_for_each_epoch(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    model.fit(batches(), batches(), 2, metrics=["accuracy"], callbacks=["progress"])
    lines = capsys.readouterr().out.splitlines()
    number = r"\d+\.\d{4}"
    for epoch, line in enumerate(lines, 1):
        metrics = f"train_loss {number}  val_loss {number}  val_accuracy {number}"
        assert re.fullmatch(rf"epoch {epoch}/2  {metrics}  lr 0\.1  \d+\.\d s", line)
    assert len(lines) == 2


def test_prints_a_line_for_a_validation_without_an_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    with small_model(optimizer=None) as model:
        model.validate(batches(), callbacks=["progress"])
    assert re.fullmatch(r"epoch 1/1  val_loss \d\.\d{4}  \d+\.\d s\n", capsys.readouterr().out)


def test_line_has_a_rate_for_each_parameter_group() -> None:
    record = EpochRecord(0, 1, 5, 0, "", 2.0, [0.1, 0.01], {})
    assert format_record(record) == "epoch 1/1  lr 0.1 0.01  2.0 s"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0000"),
        (0.96944, "0.9694"),
        (-3.14159, "-3.1416"),
        (1234.5, "1234.5000"),
        (0.00001234, "1.23e-05"),
        (-0.00001234, "-1.23e-05"),
        (2.5e9, "2.5e+09"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (3, "3.0000"),
    ],
)
def test_numbers_are_shown_in_few_digits(value: float, shown: str) -> None:
    assert format_number(value) == shown


def test_progress_says_why_a_run_was_stopped(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    planned_run(model, [0.5, 1.0, 2.0, 0.1], Progress(), EarlyStopping("train_loss", patience=2))
    assert capsys.readouterr().out.splitlines()[3:] == [
        "early_stopping ended the run after epoch 3: train_loss has not improved for 2 epochs (best 0.5)"
    ]


def test_on_a_terminal_the_reason_is_broken_between_words(model: Model, terminal: Terminal) -> None:
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(terminal):
        patch.setenv("COLUMNS", "80")
        planned_run(model, [0.5, 1.0, 2.0], Progress(), EarlyStopping("train_loss", patience=2))
    assert terminal.frames[-3:] == [
        "early_stopping ended the run after epoch 3: train_loss has not improved for 2",
        "epochs (best 0.5)",
        "",
    ]


def test_table_lists_all_epochs_in_columns(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    class LateMetric(Callback):
        def epoch_complete(self, state: State) -> None:
            if state.epoch == 1:
                state.metrics["dice"] = 0.5

    planned_run(model, [12.5, 0.25], Progress(table=True), LateMetric())
    *table, note = capsys.readouterr().out.splitlines()[2:]
    assert [line[:-9] for line in table] == [
        "epoch    train_loss    dice  lr at start",
        "  1/2       12.5000                  0.1",
        "  2/2 *      0.2500  0.5000          0.1",
    ]
    assert note == "* best train_loss"


def test_table_marks_the_best_epoch_of_the_metric_that_is_monitored(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    planned_run(model, [3.0, 5.0, 4.0], Progress(table=True, monitor="train_loss", better="max"))
    assert [line for line in capsys.readouterr().out.splitlines()[4:] if "*" in line] == [
        "  2/3 *      5.0000          0.1      0.0",
        "* best train_loss",
    ]


def test_monitor_that_no_metric_computes_is_refused(model: Model) -> None:
    with pytest.raises(BuildError, match="monitor of progress is 'val_f1', and the run has no validation"):
        model.fit(batches(), callbacks=[("progress", {"table": True, "monitor": "val_f1"})])


def many_metrics(count: int) -> Callback:
    class Many(Callback):
        def epoch_complete(self, state: State) -> None:
            state.metrics.update({f"val_f1_{number:03d}": 0.5 for number in range(count)})

    return Many()


@pytest.mark.parametrize("count", [4, 5, 100])
def test_many_values_leave_one_line_an_epoch_on_a_terminal(
    count: int, model: Model, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with redirect_stdout(terminal):
        planned_run(model, [0.5, 0.25], Progress(table=True), many_metrics(count))
    shown = [frame for frame in terminal.frames if frame]
    assert all(len(frame.rstrip()) <= 80 for frame in shown), shown
    assert (
        len(
            [
                frame
                for frame in shown
                if frame.startswith("epoch 2/2  train_loss 0.2500  val_f1_000 0.5000  ")
            ]
        )
        == 1
    )
    left_out = [f"not shown: {count - 4} of {count + 1} metrics"] if count > 4 else []
    assert [frame for frame in shown if frame.startswith("not shown")] == left_out


def test_line_tells_the_range_of_many_learning_rates() -> None:
    record = EpochRecord(0, 1, 5, 0, "", 2.0, [10.0**-power for power in range(1, 13)], {})
    assert format_record(record) == "epoch 1/1  lr 1e-12 to 0.1  2.0 s"


def test_no_table_unless_wanted(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    planned_run(model, [1.0], Progress())
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_table_tells_only_of_the_newest_run(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(table=True)
    planned_run(model, [1.0, 1.0], progress)
    capsys.readouterr()
    planned_run(model, [1.0], progress)
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize("interval", [0, -1, "1", None])
def test_interval_that_is_no_time_is_refused(interval: Any) -> None:
    with pytest.raises(ParamsError, match=r"interval of progress is .+; give a number above 0 \(seconds\)"):
        Progress(interval=interval)


def test_bar_shows_epoch_rate_time_left_and_the_newest_values(model: Model, terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        model.fit(batches(), batches(), 2, ["accuracy"], callbacks=[("progress", {"interval": 1e-9})])
    values = r"loss \d\.\d{4}  train_loss \d\.\d{4}  val_loss \d\.\d{4}  val_accuracy \d\.\d{4}"
    drawn = [
        frame
        for frame in terminal.frames
        if re.search(rf"epoch 2/2 .* updates/s  0:00:00 left  {values}", frame)
    ]
    assert len(drawn) >= 3, terminal.frames


def test_bar_shows_that_validation_goes_on(model: Model, terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        model.fit(batches(), batches(), 1, callbacks=["progress"])
    assert any(frame.startswith("epoch 1/1 validation ━") for frame in terminal.frames)


@pytest.mark.parametrize(
    "length",
    [
        {"num_epochs": 3},
        {"num_updates": 7},
        {"num_updates": 6, "num_epochs": 5},
        {"num_epochs": 2, "num_updates": 40},
        {"num_epochs": 3, "limit_train": 2, "limit_val": 1},
    ],
    ids=str,
)
def test_bar_never_goes_back_and_moves_in_validation(
    length: dict[str, Any], model: Model, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, seen = Progress(interval=1e-9), []
    draw = progress._draw

    def note(state: State, activity: str = "") -> None:
        seen.append((activity, *progress._pace.progress(state, 0.0)))
        draw(state, activity)

    monkeypatch.setattr(progress, "_draw", note)
    with redirect_stdout(terminal):
        model.fit(batches(), batches(), callbacks=[progress], **length)
    done = [step for _, step, _ in seen]
    assert done == sorted(done)
    assert {total for *_, total in seen} == {done[-1]}
    assert len({step for activity, step, _ in seen if activity}) > 3


@pytest.mark.parametrize("validate_every", ["2up", "2ep"])
def test_bar_of_validations_at_their_own_time_ends_with_the_last_update(
    validate_every: str, model: Model, terminal: Terminal
) -> None:
    progress, seen = Progress(interval=1e-9), []

    class Note(Callback):
        def iteration_complete(self, state: State) -> None:
            seen.append(progress._pace.progress(state, 0.0))

    with redirect_stdout(terminal):
        model.fit(
            batches(), batches(), num_updates=7, validate_every=validate_every, callbacks=[progress, Note()]
        )
    assert seen == [(update, 7) for update in range(1, 8)]


def test_line_within_an_epoch_fits_the_terminal_and_keeps_the_metrics_longest() -> None:
    rates = {"updates_per_second": 51.279, "samples_per_second": 1640.9}
    record = MidwayRecord("train", 0, 20, "", 0.002, {"train_loss": 2.5, "train_accuracy": 0.5}, rates)
    values = "train_loss 2.5000  train_accuracy 0.5000"
    whole = f"epoch 1/3  update 20  {values}  lr 0.002  updates/s 51.28  samples/s 1641"
    assert format_midway(record, 3) == format_midway(record, 3, len(whole)) == whole
    assert format_midway(record, 3, len(whole) - 1) == whole.removesuffix("  samples/s 1641")
    assert format_midway(record, 3, 63) == f"epoch 1/3  update 20  {values}"
    assert format_midway(record, 3, 61) == "epoch 1/3  update 20  train_loss 2.5000  +1 metric"


def test_table_leaves_out_learning_rates_before_metrics() -> None:
    metrics = {"train_loss": 0.5, "val_clean_loss": 0.25, "val_noisy_loss": 1.0}
    record = EpochRecord(0, 1, 5, 0, "", 2.0, [1e-4, 2e-3], metrics, ("backbone.*", "no decay"))
    wide, narrow, tiny = (epoch_table([record], width).splitlines() for width in (100, 80, 50))
    assert "lr at start" in wide[0]
    assert narrow[0].split() == ["epoch", *metrics, "seconds"]
    assert (tiny[0].split(), tiny[-1]) == (
        ["epoch", "train_loss", "val_clean_loss", "seconds"],
        "not shown: 1 of 3 metrics",
    )


def test_table_has_the_validation_that_ended_the_run(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model.fit(
        batches(),
        batches(),
        num_updates=4,
        validate_every="2up",
        callbacks=[("progress", {"table": True})],
    )
    head, first, last, best = capsys.readouterr().out.splitlines()[-4:]
    assert head.split() == ["epoch", "train_loss", "val_loss", "lr", "at", "start", "seconds"]
    assert (len(first.split()), last.split()[:2], len(last.split())) == (4, ["2", "*"], 6)
    assert best == "* best val_loss"


@pytest.mark.parametrize(
    ("num_epochs", "max_seconds", "before", "left"),
    [
        (3, 3.9, 0.0, "33221100"),
        (None, 3.9, 0.0, "33221100"),
        (None, 3.9, 2.1, "1100"),
        (2, 40.0, 0.0, "4332211"),  # the epochs end first
    ],
)
def test_time_left_ends_with_the_time_of_the_run(
    num_epochs: int | None,
    max_seconds: float,
    before: float,
    left: str,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: seconds)
    pace, shown, done = Pace(), [], [0.0]

    class Note(Callback):
        def start(self, state: State) -> None:
            pace.begin_run(state)

        def iteration_complete(self, state: State) -> None:
            shown.append(pace.status(state, seconds))
            now, total = pace.progress(state, seconds)
            done.append(now / total if total else 0.0)
            state.stopped = seconds + before >= max_seconds

    def step(batch: int, state: State) -> dict[str, Any]:
        nonlocal seconds
        seconds += 0.52
        return {"loss": 1.0}

    engine = Engine(step, model, callbacks=[Note()])
    engine.max_seconds, engine.seconds_before = max_seconds, before
    engine.run(range(4), num_epochs)
    found = re.findall(r"0:00:0(\d) left", "".join(shown))
    assert "".join(found).startswith(left)
    assert done == sorted(done)
    assert done[-1] == 1.0


def test_rate_counts_the_updates_of_this_epoch_alone(
    model: Model, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: seconds)

    def step(batch: int, state: State) -> dict[str, Any]:
        nonlocal seconds
        seconds += 0.5
        return {"loss": 1.0}

    with redirect_stdout(terminal):
        Engine(step, model, callbacks=[Progress(interval=1e-9)]).run(range(4), 3)
    rates = re.findall(r"(\S+) updates/s", terminal.getvalue())
    assert set(rates) == {"2.0"}


def test_lines_stay_above_the_bar_and_nothing_of_the_bar_stays(model: Model, terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        planned_run(model, [0.5, 0.25], Progress())
    shown = terminal.frames
    assert [frame for frame in shown if frame.startswith("epoch 1/2  train_loss 0.5000  lr 0.1")]
    assert [frame for frame in shown if frame.startswith("epoch 2/2  train_loss 0.2500  lr 0.1")]
    assert terminal.getvalue().endswith("\x1b[2K")  # the bar's line is cleared


def test_bar_never_squeezes_the_epoch(
    model: Model, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with redirect_stdout(terminal):
        planned_run(model, [0.5, 0.25], Progress(interval=1e-9))
    drawn = [frame for frame in terminal.frames if "updates/s" in frame]
    assert drawn
    assert all(re.match(r"epoch \d/2 ━", frame) and len(frame.rstrip()) <= 60 for frame in drawn), drawn
    assert any(frame.rstrip().endswith("…") for frame in drawn)


def test_bar_of_a_loader_without_a_length_has_a_rate_and_no_time_left(
    model: Model, terminal: Terminal
) -> None:
    engine = planned_engine(model, [0.5], [Progress(interval=1e-9)])
    with redirect_stdout(terminal):
        engine.run(iter(range(3)))
    assert any("updates/s  loss 0.5000" in frame for frame in terminal.frames)
    assert "left" not in terminal.getvalue()


def test_bar_counts_windows_of_batches(model: Model, terminal: Terminal) -> None:
    progress = Progress(interval=1e-9)
    done = []

    class Note(Callback):
        def iteration_complete(self, state: State) -> None:
            done.append(progress._pace.progress(state, 0.0))

    with redirect_stdout(terminal):
        planned_engine(model, [1.0, 1.0], [progress, Note()], window_size=2).run(range(5), 2)
    assert done == [(updates, 6) for updates in range(1, 7)]


def test_bar_of_a_resumed_run_counts_what_is_left(model: Model, terminal: Terminal) -> None:
    progress = Progress(interval=1e-9)
    done = []

    class Note(Callback):
        def iteration_complete(self, state: State) -> None:
            done.append(progress._pace.progress(state, 0.0))

    with redirect_stdout(terminal):
        planned_engine(model, [1.0] * 3, [progress, Note()]).run(range(2), 3, 2)
    assert done == [(1, 2), (2, 2)]


def test_loss_is_read_only_when_the_bar_is_drawn(
    model: Model, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: seconds)
    reads = []

    class Output(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            if key == "loss":
                reads.append(seconds)
            return super().__getitem__(key)

    def step(batch: int, state: State) -> Output:
        nonlocal seconds
        seconds += 0.1
        return Output(prediction=None, target=None, loss=torch.tensor(1.0))

    with redirect_stdout(terminal):
        Engine(step, model, callbacks=[Progress(interval=0.45)]).run(range(20))
    assert reads == pytest.approx([0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize("where", ["iteration_complete", "start"])
def test_bar_ends_with_the_exception_that_ends_the_run(where: str, model: Model, terminal: Terminal) -> None:
    def fail(self: Any, state: State) -> None:
        raise RuntimeError("boom")

    failing = type("Failing", (Callback,), {where: fail})()
    with redirect_stdout(terminal):
        with pytest.raises(RuntimeError, match="boom"):
            planned_run(model, [1.0], Progress(), failing)
        assert sys.stdout is terminal  # rich has given it back
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is shown again


def test_progress_of_validations_within_a_run_leaves_the_bar_to_the_run(
    model: Model, terminal: Terminal
) -> None:
    with redirect_stdout(terminal):
        model.fit(batches(), batches(), 1, callbacks=["progress"], val_callbacks=["progress"])
    assert terminal.getvalue().count("\x1b[?25l") == 1  # the cursor was hidden for one bar


def test_table_on_a_terminal_has_the_best_and_the_last_epoch(model: Model, terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        planned_run(model, [0.75, 0.5, 1.0, 2.0], Progress(table=True))
    header = next(place for place, frame in enumerate(terminal.frames) if "lr at start" in frame)
    assert [frame[:22] for frame in terminal.frames[header + 1 :] if frame] == [
        "  2/4 *      0.5000   ",
        "  4/4        2.0000   ",
        "* best train_loss",
    ]


@pytest.mark.parametrize("term", ["dumb", None])
def test_dumb_terminal_gets_plain_lines(
    term: str | None, model: Model, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb") if term else monkeypatch.setattr(
        Terminal, "isatty", lambda self: False
    )
    with redirect_stdout(terminal):
        planned_run(model, [0.5], Progress(table=True))
    assert "\x1b" not in terminal.getvalue()


def test_rich_is_not_imported_where_there_is_no_terminal() -> None:
    code = (
        "import sys\n"
        "from argus_core import Engine\n"
        "from argus_core.callbacks import Progress\n"
        "class Model:\n"
        "    logger = optimizer = device = None\n"
        "Engine(lambda batch, state: {}, Model(), callbacks=[Progress(table=True)]).run([0])\n"
        "assert 'rich' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("epoch 1/1")
