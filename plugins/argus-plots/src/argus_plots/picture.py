"""The base class of callbacks that draw: a file, a pause between drawings, one process that draws."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from argus_core import ArgusError, BuildError, Callback, ParamsError, State, hookimpl
from argus_core.authors import WRITES, is_first, make_folder, opener, place_to_write, writing
from argus_plots.drawing import IS_OURS

__all__ = ["Picture"]


class Picture(Callback):
    """Abstract callback that draws a picture of a run, at most once an interval and at the end.

    Args:
        file_path: a file that ends in ``.png``; parent folders are made.
        interval: seconds between drawings.

    Raises:
        BuildError: at the start: the callback is used in a validation without training.
        ArgusError: at the start: the file is there, and is not such a picture.
    """

    computes = ()
    file_params: ClassVar = {"file_path": WRITES}
    checked_with: ClassVar[Mapping[str, Any]] = {"params": {"file_path": "picture.png"}}

    def __init__(self, file_path: str | Path, interval: float = 30.0) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not interval >= 0:
            raise ParamsError(
                f"interval of {self.name} is {interval!r}; give a number of seconds, 0 for each epoch"
            )
        self.file_path = place_to_write(self.name, "file_path", file_path)
        if self.file_path.suffix.lower() != ".png":
            raise ParamsError(
                f"file_path of {self.name} is {str(file_path)!r}; give a file that ends in .png"
            )
        self.interval = interval
        self._next_time = 0.0
        self._draws = self._has_failed = False

    @abstractmethod
    def draw(self, state: State) -> None:
        """Draw the picture, if there is anything to draw."""

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        """Check that the picture can be written, and begin the first interval."""
        if state.phase != "train":
            raise BuildError(f"{self.name} is used in a validation; list it in callbacks of fit")
        self._draws, self._has_failed = is_first(), False
        self._next_time = time.monotonic() + self.interval
        if not self._draws:
            return
        make_folder(self.name, self.file_path.parent)
        with writing(self.name, self.file_path):
            if self.file_path.exists() and not self._is_ours():
                raise ArgusError(
                    f"{self.name} would replace {self.file_path.name!r}, which is not a picture that it "
                    "drew; choose another file_path, or remove the file"
                )

    @hookimpl(tryfirst=True)
    def epoch_start(self, state: State) -> None:
        """Draw the epochs before, if the interval has passed; all callbacks are done with them."""
        if self._draws and time.monotonic() >= self._next_time:
            self._try_to_draw(state)
            self._next_time = time.monotonic() + self.interval

    @hookimpl(trylast=True)
    def complete(self, state: State) -> None:
        """Draw the whole run."""
        if self._draws:
            self._try_to_draw(state)

    @hookimpl(trylast=True)
    def catch_exception(self, state: State) -> None:
        """Draw the run so far; its own exception matters more than one from drawing."""
        if self._draws:
            try:
                self._try_to_draw(state)
            except ParamsError as error:
                self._warn(state, error)

    def _try_to_draw(self, state: State) -> None:
        """Draw the picture, or warn once: no run ends since it cannot be drawn.

        Raises:
            ParamsError: the callback's parameters do not fit the run.
        """
        try:
            self.draw(state)
        except ParamsError:
            raise
        except Exception as error:  # from matplotlib or the disk
            self._warn(state, error)

    def _warn(self, state: State, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            reason = str(error) or type(error).__name__
            state.logger.warning("%s could not draw %s: %s", self.name, self.file_path.name, reason)

    def _is_ours(self) -> bool:
        with open(self.file_path, "rb", opener=opener) as file:
            return IS_OURS in file.read(200)
