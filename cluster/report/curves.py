"""Curves as inline SVG, and as figures for the page's script to read out.

A panel is one small chart over steps. Colours come from the page's style sheet by class: `s0` is the first series.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from cluster.report.decimate import Values, keep, smooth
from cluster.report.scale import Scale, fit, number, tick

WIDTH, HEIGHT = 360, 156
LEFT, TOP, RIGHT, BOTTOM = 44, 10, 352, 132
MAX_POINTS = 1000
SMOOTHED_FROM = 120
"""Rows from which on a noisy curve gets a smooth line on top."""
LABELLED_FROM = 10
"""Per cent of a stack from which on an area carries its name."""
DOTTED_UP_TO = 60
"""Points up to which each is marked."""


@dataclass(frozen=True)
class Series:
    """One curve; `pale` ones are context."""

    name: str
    steps: Sequence[int]
    values: Values
    pale: bool = False

    def thinned(self, limit: int = MAX_POINTS) -> "Series":
        """At most `limit` of its points."""
        return self.at(keep(self.values, limit))

    def at(self, indices: Sequence[int]) -> "Series":
        """The points of these indices."""
        steps, values = [self.steps[i] for i in indices], [self.values[i] for i in indices]
        return Series(self.name, steps, values, self.pale)


@dataclass(frozen=True)
class Panel:
    """One chart."""

    title: str
    series: Sequence[Series]
    noisy: bool = False
    """Whether a smooth line helps."""
    may_log: bool = False
    """Whether orders of magnitude matter more than differences."""
    stacked: bool = False
    """Areas on top of each other that fill 100 %, of series with the same steps."""


@dataclass(frozen=True)
class Mark:
    """A step at which something happened to the run: `lost` or `resume`."""

    step: int
    kind: str


@dataclass(frozen=True)
class Key:
    """A line of a chart's legend."""

    name: str
    last: str


@dataclass(frozen=True)
class Chart:
    """A panel as the template takes it."""

    title: str
    keys: list[Key]
    log: bool
    smoothed: int
    """Rows behind each point of the smooth line; 0 where there is none."""
    svg: str
    figures: dict[str, object]
    """What the script needs to read values out."""


def draw(panel: Panel, marks: Iterable[Mark], last_step: int) -> Chart:
    """The chart of a panel, its x axis from 0 to `last_step`."""
    thinned = _thin(panel)
    x = Scale(0, max(1, last_step), LEFT, RIGHT)
    if panel.stacked:
        y = Scale(0, 100, BOTTOM, TOP)
    else:
        y = fit((value for series in thinned for value in series.values), BOTTOM, TOP, panel.may_log)
    rows = max(len(series.values) for series in panel.series)
    window = rows // 40 if panel.noisy and rows >= SMOOTHED_FROM else 0
    curves = _areas(thinned, x, y) if panel.stacked else _lines(panel, thinned, window, x, y)
    whole = all(isinstance(value, int) for series in thinned for value in series.values)
    parts = [_axes(x, y, whole), *curves, *_marks(marks, x)]
    digits = _hundredths if panel.stacked else _exact
    label = escape(_describe(panel))
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    figures: dict[str, object] = {
        "x": [x.low, x.high],
        "y": [y.low, y.high],
        "log": y.log,
        "box": [LEFT, TOP, RIGHT, BOTTOM],
        "stacked": panel.stacked,
        "series": [
            {"name": s.name, "x": list(s.steps), "y": [digits(value) for value in s.values]} for s in thinned
        ],
    }
    keys = [Key(s.name, _last(s)) for s in panel.series]
    return Chart(panel.title, keys, y.log, window, svg, figures)


def _thin(panel: Panel) -> list[Series]:
    """Short enough series; those that share their steps go on sharing them, so that they read out together."""
    if any(series.steps != panel.series[0].steps for series in panel.series):
        return [series.thinned() for series in panel.series]
    limit = MAX_POINTS // len(panel.series)
    kept = sorted({index for series in panel.series for index in keep(series.values, limit)})
    return [series.at(kept) for series in panel.series]


def _exact(value: float | None) -> float | None:
    """Seven digits hold all of a float32."""
    return None if value is None else float(f"{value:.7g}")


def _hundredths(value: float | None) -> float | None:
    """A per cent with two decimals."""
    return None if value is None else round(value, 2)


def _last(series: Series) -> str:
    return number(series.values[-1], 4) if series.values else ""


def _describe(panel: Panel) -> str:
    words = []
    for series in panel.series:
        present = [value for value in series.values if value is not None]
        if present:
            first, last, low, high = map(number, (present[0], present[-1], min(present), max(present)))
            words.append(f"{series.name} from {first} to {last}, between {low} and {high}")
    return f"{panel.title} over steps: {'; '.join(words) or 'no value'}"


def _axes(x: Scale, y: Scale, whole: bool) -> str:
    """Grid and numbers; only whole ones where the values are `whole`."""
    parts = []
    for value in y.ticks(5 if y.log else 4):
        if whole and value != int(value):
            continue
        height = y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {height:.1f}H{RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{height + 3.5:.1f}">{tick(value)}</text>')
    steps = [value for value in x.ticks(5) if value == int(value)]
    for value in steps:
        anchor = "end" if x(value) > RIGHT - 8 else "middle"
        parts.append(
            f'<text class="x" x="{x(value):.1f}" y="{BOTTOM + 15}" text-anchor="{anchor}">{tick(value)}</text>'
        )
    return "".join(parts)


def _marks(marks: Iterable[Mark], x: Scale) -> list[str]:
    """A line each, with a triangle at the top where workers were lost and on the axis where the run went on."""
    parts = []
    for mark in marks:
        at = x(mark.step)
        corners = (
            f"{at - 4:.1f} {TOP - 7}h8l-4 6" if mark.kind == "lost" else f"{at - 4:.1f} {BOTTOM}h8l-4 -6"
        )
        parts.append(f'<path class="mark {mark.kind}" d="M{at:.1f} {TOP}V{BOTTOM}"/>')
        parts.append(f'<path class="place {mark.kind}" d="M{corners}z"/>')
    return parts


def _lines(panel: Panel, thinned: Sequence[Series], window: int, x: Scale, y: Scale) -> list[str]:
    parts = []
    for index, (series, whole) in enumerate(zip(thinned, panel.series, strict=True)):
        look = "context" if series.pale else "pale" if window else "line"
        points = [
            (x(step), None if v is None else y(v))
            for step, v in zip(series.steps, series.values, strict=True)
        ]
        parts.append(f'<path class="{look} s{index % 8}" d="{_path(points)}"/>')
        if window and not series.pale:
            calm = Series(whole.name, whole.steps, smooth(whole.values, window)).thinned(300)
            line = [(x(s), None if v is None else y(v)) for s, v in zip(calm.steps, calm.values, strict=True)]
            parts.append(f'<path class="line s{index % 8}" d="{_path(line)}"/>')
        elif len(points) <= DOTTED_UP_TO and not series.pale:
            dots = "".join(f"M{px:.1f} {py:.1f}h0" for px, py in points if py is not None)
            parts.append(f'<path class="dots s{index % 8}" d="{dots}"/>')
        if lost := [px for px, py in points if py is None]:
            crosses = "".join(f"M{px - 2.5:.1f} {TOP - 2.5}l5 5m0 -5l-5 5" for px in lost)
            parts.append(f'<path class="nan" d="{crosses}"/>')
    return parts


def _path(points: Sequence[tuple[float, float | None]]) -> str:
    """Straight lines through the points, broken where one is missing."""
    words: list[str] = []
    pen_down = False
    for px, py in points:
        if py is not None:
            words.append(f"{'L' if pen_down else 'M'}{px:.1f} {py:.1f}" + ("" if pen_down else "h0"))
        pen_down = py is not None
    return "".join(words)


def _areas(stack: Sequence[Series], x: Scale, y: Scale) -> list[str]:
    below = [0.0] * len(stack[0].steps)
    parts = []
    for index, series in enumerate(stack):
        above = [low + (value or 0.0) for low, value in zip(below, series.values, strict=True)]
        upper = [f"{x(step):.1f} {y(top):.1f}" for step, top in zip(series.steps, above, strict=True)]
        lower = [f"{x(step):.1f} {y(low):.1f}" for step, low in zip(series.steps, below, strict=True)]
        parts.append(f'<path class="area s{index % 8}" d="M{"L".join([*upper, *reversed(lower)])}Z"/>')
        if above[-1] - below[-1] > LABELLED_FROM:
            middle = y((above[-1] + below[-1]) / 2) + 3.5
            parts.append(f'<text class="share" x="{RIGHT - 6}" y="{middle:.1f}">{escape(series.name)}</text>')
        below = above
    return parts
