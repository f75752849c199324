"""The few lines under which a terminal shows a run: how far, how fast, the losses, the components in use.

digits  1250/5000  ━━━━━━━━━━━━━━━━  25%  3:12 left
812 images/s (406 | 406)  data wait 3%  memory 1.2 GiB  epoch 2.50
discriminator 1.21  adversarial 0.84  reconstruction 0.213
components  0 ▇▅█▂ 11% to 38%  1 ████ 25% to 25%
"""

import math

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.notes import Row
from cluster.row_parts import scalars_of, shares_of, under, workers_of

SHOWN_SCALARS = 6
SHOWN_WORKERS = 4
"""More are shown as the slowest and the fastest."""
SLOW_DATA = 0.1
"""Share of waiting for data from which on it is a warning."""
GAP = "  "
BARS = " ▁▂▃▄▅▆▇█"


class Flow:
    """Figures beside each other, as many as the width holds, then below: folded between them, never inside one."""

    def __init__(self, *cells: Text) -> None:
        self._cells = cells

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Called by rich with the width there is."""
        line = Text(no_wrap=True, overflow="ellipsis")
        for cell in self._cells:
            if line and line.cell_len + len(GAP) + cell.cell_len > options.max_width:
                yield line
                line = Text(no_wrap=True, overflow="ellipsis")
            line.append(GAP if line else "").append_text(cell)
        yield line


def panel(name: str, steps: int, row: Row, seconds_left: float | None) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [_headline(name, steps, row["step"], seconds_left), Flow(*_pace(row))]
    scalars = scalars_of(row)
    temperature = scalars.pop("temperature", None)
    shown = list(scalars.items())[:SHOWN_SCALARS]
    shown += [("temperature", temperature)] if temperature is not None else []
    parts.append(Flow(*(_figure(*figure) for figure in shown)))
    if held_out := under("held_out/", row):
        parts.append(Flow(Text("held out", "dim"), *(_figure(*figure) for figure in held_out.items())))
    if shares := shares_of(row):
        parts.append(Flow(Text("components", "dim"), *map(_bars, range(len(shares)), shares)))
    return Group(*parts)


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _headline(name: str, steps: int, step: int, seconds_left: float | None) -> Table:
    line = Table.grid(padding=(0, 2, 0, 0), expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1, min_width=8)
    line.add_column(no_wrap=True, justify="right")
    left = "" if seconds_left is None else f"  {duration(seconds_left)} left"
    line.add_row(
        Text(name, "bold"),
        f"{step}/{steps}",
        ProgressBar(total=steps, completed=step),
        f"{step / steps:.0%}{left}",
    )
    return line


def _pace(row: Row) -> list[Text]:
    workers = workers_of(row)
    speeds = [worker["images_per_second"] for worker in workers]
    cells = [Text(f"{row['images_per_second']:.4g} images/s")]
    if len(workers) > SHOWN_WORKERS:
        cells[0].append(f" ({min(speeds):.3g} to {max(speeds):.3g} a worker)", "dim")
    elif len(workers) > 1:
        cells[0].append(f" ({' | '.join(f'{speed:.3g}' for speed in speeds)})", "dim")
    cells.append(
        Text.assemble(
            ("data wait ", "dim"),
            (f"{row['data_wait']:.0%}", "yellow" if row["data_wait"] >= SLOW_DATA else ""),
        )
    )
    if workers:
        most = max(worker["memory_mib"] for worker in workers)
        cells.append(Text.assemble(("memory ", "dim"), f"{most / 1024:.1f} GiB"))
    cells.append(Text.assemble(("epoch ", "dim"), f"{row['epoch']:.2f}"))
    if row["skipped"]:
        cells.append(Text(f"{row['skipped']} steps skipped", "yellow"))
    return cells


def _figure(label: str, value: float) -> Text:
    """Padded, so that figures stay where they are from row to row."""
    return Text.assemble((f"{label} ", "dim"), (f"{value:<7.3g}", "" if math.isfinite(value) else "bold red"))


def _bars(domain: int, shares: list[float]) -> Text:
    """A bar for each component, full at the largest share, and how far the shares are apart."""
    largest = max(shares)
    heights = [math.ceil(share / largest * (len(BARS) - 1)) for share in shares]
    return Text.assemble(
        (f"{domain} ", "dim"),
        ("".join(BARS[height] for height in heights), "cyan"),
        (f" {min(shares):.0%} to {largest:.0%}", "dim"),
    )
