"""A bar for long work, with its rate and the time left; only where a terminal reads."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as parts
from rich.console import Console
from rich.text import Text

Progress = Callable[[int, int], None]  # done, in all


class RateColumn(parts.ProgressColumn):
    """Things per second."""

    def __init__(self, things: str) -> None:
        super().__init__()
        self.things = things

    def render(self, task: parts.Task) -> Text:
        """Write the rate of `task`, once there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self.things}/s" if speed else "", style="progress.data.speed")


@contextmanager
def show(label: str, things: str = "") -> Iterator[Progress]:
    """Show a bar that counts `things`, or bytes; yields what is to be told `(done, in all)`."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    counters: list[parts.ProgressColumn] = [parts.DownloadColumn(), parts.TransferSpeedColumn()]
    if things:
        counters = [parts.MofNCompleteColumn(), RateColumn(things)]
    columns = (parts.TextColumn(label), parts.BarColumn(), *counters, parts.TimeRemainingColumn())
    with parts.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
