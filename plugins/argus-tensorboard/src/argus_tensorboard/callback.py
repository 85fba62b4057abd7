"""The callback that writes a run to TensorBoard's event files."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from logging import Logger
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as session_summaries

from argus_core import BuildError, Callback, ParamsError, State, hookimpl
from argus_core.authors import (
    WRITES,
    Due,
    is_first,
    make_folder,
    making_files,
    one_line,
    parse_cadence,
    place_to_write,
    plain_metrics,
    update_loss,
    writing,
)
from argus_tensorboard.graph import add_graph
from argus_tensorboard.histograms import add_histograms
from argus_tensorboard.hparams import flat_params
from argus_tensorboard.samples import add_samples, inputs_of

__all__ = ["TensorBoard"]

_SECONDS = re.compile("[0-9]{10}")


class TensorBoard(Callback):
    """Writes the curves of a run, and optionally more, to event files; a step is the number of updates.

    Metrics are written after each epoch, ``val_accuracy`` as ``accuracy/val``, and that of the validation set
    ``clean`` as ``accuracy/val_clean``. The callback waits for the device only when it writes. A resumed run
    continues in the same folder, and TensorBoard no longer shows what an earlier process wrote after the
    checkpoint. Of several processes the first writes.

    Args:
        log_dir: the folder of the event files.
        every: the interval of the update's loss and the learning rates: ``"50up"``, ``"1min"``.
        histograms: the interval of histograms of weights and gradients: ``"1ep"``; ``None`` for never.
        samples: the interval of some predictions of the last validation batch, or of the last training batch
            without validation.
        max_samples: the number of these predictions.
        graph: whether to write the network's graph, after the first update; refused for a run of shards.
        hparams: whether to write the model's params as hyperparameters.
    """

    name = "tensorboard"
    computes = ()
    file_params: ClassVar = {"log_dir": WRITES}
    run_paths: ClassVar = {"log_dir": "tensorboard"}
    checked_with: ClassVar[Mapping[str, Any]] = {"params": {"log_dir": "events"}}

    def __init__(
        self,
        log_dir: str | Path,
        every: str | None = "50up",
        histograms: str | None = None,
        samples: str | None = None,
        max_samples: int = 16,
        graph: bool = False,
        hparams: bool = True,
    ) -> None:
        if type(max_samples) is not int or max_samples < 1:
            raise ParamsError(f"max_samples of {self.name} is {max_samples!r}; give an integer of at least 1")
        self.log_dir = place_to_write(self.name, "log_dir", log_dir)
        self.max_samples = max_samples
        self.reads_predictions = samples is not None or type(self) is not TensorBoard
        self.graph = graph
        self.hparams = hparams
        self._every = _due("every", every)
        self._histograms = _due("histograms", histograms)
        self._samples = _due("samples", samples)
        self._writer: SummaryWriter | None = None
        self._waiting_for_graph = self._waiting_for_hparams = False
        self._session_end: Any = None
        self._lr_step = -1  # whose rates are written

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Open an event file; TensorBoard no longer shows an earlier run in the folder.

        Raises:
            BuildError: the callback is used in a validation without training, or asked for the graph of a
                network of which each process holds shards.
        """
        self._close()  # of a run that did not end properly
        if state.phase != "train":
            raise BuildError(
                f"{self.name} is used in a validation; list it in callbacks of fit, which also validates"
            )
        if self.graph and state.model.parallel.is_sharded:
            raise BuildError(
                f"{self.name} has graph=True in a run of shards, which one process cannot trace alone; "
                "leave graph out, or write the graph in a run of one process"
            )
        if not is_first():
            return
        for due in (self._every, self._histograms, self._samples):
            if due is not None:
                due.start(state.global_step)
        self._waiting_for_graph, self._waiting_for_hparams = self.graph, self.hparams
        self._session_end, self._lr_step = None, -1
        is_resumed = state.global_step > 0 or state.epoch > 0
        make_folder(self.name, self.log_dir)
        with writing(self.name, self.log_dir):
            _await_another_second(self.log_dir, state.logger)
            with making_files(self.log_dir):
                self._writer = SummaryWriter(
                    str(self.log_dir), purge_step=state.global_step + 1 if is_resumed else 0
                )

    @hookimpl(trylast=True)
    def iteration_complete(self, state: State) -> None:
        """Write the values that are due after this update."""
        writer = self._writer
        if writer is None:
            return
        if self._waiting_for_graph:
            self._waiting_for_graph = False
            add_graph(writer, state.model.get_nn_module(), state.batch, state.model.device, state.logger)
        intervals = (self._every, self._histograms, self._samples)
        due = [each is not None and each.after_update(state.global_step) for each in intervals]
        if any(due):
            with writing(self.name, self.log_dir):
                self._write_update(writer, state, *due)

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Write the metrics, and the values that are due after this epoch."""
        writer, step = self._writer, state.global_step
        if writer is None:
            return
        with writing(self.name, self.log_dir):
            phases = _phases(state)
            measured = {name: value for name, value in state.metrics.items() if state.is_measured(name)}
            metrics = {_tag(name, phases): value for name, value in plain_metrics(measured).items()}
            for tag, value in metrics.items():
                writer.add_scalar(tag, value, step)
            writer.add_scalar("epoch", state.epoch, step)
            writer.add_scalar("updates_skipped", state.updates_skipped, step)
            self._add_learning_rates(writer, state)
            if self._waiting_for_hparams:
                self._waiting_for_hparams = False
                self._add_hparams(writer, state, metrics)
            if self._histograms is not None and self._histograms.after_epoch(state.epoch):
                add_histograms(writer, state.model.get_nn_module(), step)
            if self._samples is not None and self._samples.after_epoch(state.epoch):
                self._add_samples(writer, state)
            writer.flush()

    @hookimpl(trylast=True)
    def measured_midway(self, state: State) -> None:
        """Write values of the middle of an epoch, those of training as ``loss/running``."""
        record, writer = state.midway, self._writer
        if record is None or writer is None:
            return
        with writing(self.name, self.log_dir):
            phases = _phases(state)
            for name, value in {**record.metrics, **record.rates}.items():
                tag = _tag(name, phases)
                if record.phase == "train":
                    tag = f"{tag.removesuffix('/train')}/running"
                writer.add_scalar(tag, value, record.global_step)
            self._add_learning_rates(writer, state)

    def checkpoint_saved(self, state: State) -> None:
        """Flush the file, so that a run that resumes from the checkpoint finds all earlier values."""
        if self._writer is not None:
            with writing(self.name, self.log_dir):
                self._writer.flush()

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """Close the file."""
        if self._writer is not None and self._session_end is not None:
            with writing(self.name, self.log_dir):
                _add_summary(self._writer, self._session_end)
        self._close()

    @hookimpl(trylast=True)
    def catch_exception(self, state: State) -> None:
        """Close the file; values written before the exception are kept."""
        self._close()

    def draw_samples(
        self, writer: SummaryWriter, input: Any, prediction: Any, target: Any, step: int
    ) -> None:
        """Write some samples of a batch; override it to draw them in another way.

        Args:
            writer: the writer with ``add_image``, ``add_figure``, ``add_text``, ``add_audio`` and so on.
            input: the input in the loader's batch.
            prediction: the prediction after prediction_transform, on the device.
            target: the target, on the device.
            step: the number of updates since the start of the run.
        """
        add_samples(writer, input, prediction, target, step, self.max_samples)

    def _write_update(
        self, writer: SummaryWriter, state: State, values: bool, histograms: bool, samples: bool
    ) -> None:
        if values:
            self._add_loss(writer, state)
            self._add_learning_rates(writer, state)
        if histograms:
            add_histograms(writer, state.model.get_nn_module(), state.global_step)
        if samples:
            self._add_samples(writer, state)

    def _add_loss(self, writer: SummaryWriter, state: State) -> None:
        loss = update_loss(state)
        if loss is not None:
            writer.add_scalar("loss/update", float(loss), state.global_step)

    def _add_learning_rates(self, writer: SummaryWriter, state: State) -> None:
        if self._lr_step == state.global_step:
            return
        self._lr_step = state.global_step
        groups = getattr(state.model.optimizer, "param_groups", [])
        for number, group in enumerate(groups):
            tag = "lr" if len(groups) == 1 else one_line(f"lr/{group.get('name', number)}")
            writer.add_scalar(tag, float(group["lr"]), state.global_step)

    def _add_samples(self, writer: SummaryWriter, state: State) -> None:
        validated = next(
            (each for phase, each in (state.phase_states or {}).items() if phase != "train"), None
        )
        source = state if validated is None or validated.step_output is None else validated
        output = source.step_output
        prediction, target = (output.get(key) for key in ("prediction", "target"))
        self.draw_samples(writer, inputs_of(source.batch), prediction, target, state.global_step)

    def _add_hparams(self, writer: SummaryWriter, state: State, metrics: dict[str, float]) -> None:
        run = {"num_epochs": state.engine.num_epochs, "seed": state.engine.seed}
        params = {**flat_params(state.model.params), **run}
        experiment, session_start, self._session_end = session_summaries(  # type: ignore[no-untyped-call]
            params, metrics
        )
        for summary in (experiment, session_start):
            _add_summary(writer, summary)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with writing(self.name, self.log_dir):
                writer.close()


def _due(argument: str, every: str | None) -> Due | None:
    return None if every is None else Due(parse_cadence("tensorboard", every, argument))


def _await_another_second(folder: Path, logger: Logger) -> None:
    """Wait until a new event file sorts after those in the folder, whose names have seconds."""
    names = [file.name.split(".")[3] for file in folder.glob("events.out.tfevents.*")]
    newest = max((int(name) for name in names if _SECONDS.fullmatch(name)), default=0)
    now = time.time()
    if newest == int(now):
        time.sleep(1 - now % 1)
    elif newest > now:
        logger.warning(
            "%s has event files of a later time than this computer's clock; TensorBoard reads them after the "
            "new one, and shows curves that go back; set the clock, or give another log_dir",
            folder,
        )


def _add_summary(writer: Any, summary: Any) -> None:
    """Write what `SummaryWriter.add_hparams` would write, but to the same folder."""
    writer.file_writer.add_summary(summary)


def _phases(state: State) -> list[str]:
    """Return the phases of a run, the longest first."""
    return sorted({"train", "val", *state.phase_states}, key=len, reverse=True)


def _tag(name: str, phases: Sequence[str]) -> str:
    """Return the name under which TensorBoard groups the curves of all phases.

    Args:
        name: of a metric's value.
        phases: of the run, the longest first.
    """
    name = one_line(name)
    phase = next((each for each in phases if name.startswith(f"{each}_")), "")
    metric = name.removeprefix(f"{phase}_")
    return f"{metric}/{phase}" if phase and metric else name
