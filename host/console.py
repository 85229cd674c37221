"""What the command line says and where: results to standard output, progress and complaints to standard error."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from host.backend import Report
from host.errors import BitlineError

__all__ = ["Screen"]

_WIDTH = 180


class Screen:
    """The terminal of one command.

    Parameters
    ----------
    json_to : str or None
        File for the results as JSON; with `-` they go to standard output, and everything else to standard error.
    """

    def __init__(self, json_to: str | None = None) -> None:
        self.json_to = json_to
        if json_to not in (None, "-") and not Path(json_to).resolve().parent.is_dir():
            raise BitlineError(f"--json {json_to}: there is no directory {Path(json_to).resolve().parent}")
        self.out = Console(stderr=json_to == "-", highlight=False, soft_wrap=True)
        self.error = Console(stderr=True, highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            self.out.width = _WIDTH  # a file has none, and nothing should be cut
        self.seconds: dict[str, float] = {}
        """Time of each stage."""
        self._bars: Progress | None = None

    def say(self, text: str = "") -> None:
        """Print a line of results."""
        self.out.print(text, markup=False)

    def tell(self, text: str) -> None:
        """Print what is going on."""
        self.error.print(text, markup=False, style="dim")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
        """Print a table; columns of numbers stand to the right, and only a last column of text is broken."""
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for k, heading in enumerate(headings):
            number = bool(rows) and all(str(row[k])[:1].isdigit() or not str(row[k]) for row in rows)
            table.add_column(Text(heading), justify="right" if number else "left",
                             no_wrap=number or k + 1 < len(headings))
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        self.out.print(table)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name a stage, show the progress of its parts, and tell how long it took."""
        began = time.monotonic()
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.error, transient=True, disable=not self.error.is_terminal) as bars:
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None
        self.seconds[name] = round(time.monotonic() - began, 2)
        self.tell(f"{name}: {self.seconds[name]:.1f} s")

    def progress(self, label: str, total: int) -> Report:
        """Begin a bar of the present stage; return what is told of each step."""
        bars = self._bars
        if bars is None:
            return lambda _done: None
        for task in list(bars.tasks):
            if task.finished:
                bars.remove_task(task.id)
        identity = bars.add_task(label, total=total)

        def report(done: int) -> None:
            bars.advance(identity, done)

        return report

    def result(self, values: Any) -> None:
        """Write the results as JSON, where that was asked for."""
        if self.json_to is not None:
            self.result_text(json.dumps(values, indent=2, default=_plain))

    def result_text(self, text: str) -> None:
        """Write what is JSON already, where that was asked for."""
        if self.json_to is None:
            return
        if self.json_to == "-":
            print(text)
            return
        try:
            Path(self.json_to).write_text(text + "\n", "utf-8")
        except OSError as error:
            raise BitlineError(f"--json {self.json_to}: {error.strerror}") from error


def _plain(value: Any) -> Any:
    """Return a numpy value as JSON knows it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
