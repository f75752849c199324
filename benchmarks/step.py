"""Cost of one training step: the shipped single pass against the published update of DRIT++/MDMM, and its variants.

    python -m benchmarks.step --out benchmarks/results/step.md     # 15 minutes
    python -m benchmarks.step --size 32 --rounds 3                 # a quick look

Concat generator at the published widths, 64 px, two domains, batch 1 + 1, content discriminator on, mode seeking off
(MDMM has none). Process CPU time of one thread, the steps to compare in turn within one run, and FLOPs of one step.

Three questions, a table each: how the shipped update (`benchmarks/step_shipped.py`) compares with the published one
(`benchmarks/step_published.py`, which says what that is); what its settings cost; what its optimisations are worth. The
published one runs on PyTorch's layers as public code does (`benchmarks/step_plain.py`); a row of it on this project's
layers tells what the order of the update is worth by itself.

Both sides of the first table have the same weights, objective and noise, and that is checked in float64 before anything
is timed: equal loss terms, equal gradients. The shipped side also keeps the averaged weights and checks gradients for
infinities.
"""

import argparse
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step_plain import PLAIN, replace
from benchmarks.step_published import PublishedUpdate
from benchmarks.step_shipped import CHANGED, VARIANTS, ShippedUpdate, Step, adam, new_model, variant
from gmvae_drit.model import Batch
from gmvae_drit.networks.concat_generator import ConcatGenerator

WARM_UP = 2


def new_batch(size: int) -> Batch:
    """One image of either domain."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    return {"image": 2 * images - 1, "domain": torch.tensor([0, 1])}


def published(forwards: int, kinds: dict[type[nn.Module], type[nn.Module]] = PLAIN) -> Step:
    """The published update, with `kinds` of modules as they are without this project's doing."""
    model = new_model()
    replace(model, kinds)
    return PublishedUpdate(model, forwards, adam(model)).step


SIDES: dict[str, Callable[[], Step]] = {
    "published": lambda: published(2),
    "published, one forward": lambda: published(1),
    "published, on this project's layers": lambda: published(2, {ConcatGenerator: PLAIN[ConcatGenerator]}),
    "shipped": lambda: variant({}),
}


def check_same_objective(size: int) -> float:
    """Largest relative difference between the two sides in float64: loss terms and translator gradient.

    Plain SGD, so that the discriminators move alike on both sides before the translator learns from them: Adam's first
    step is the gradient's sign, which rounding decides where the gradient is nearly zero.
    """

    def sgd(parameters: list[nn.Parameter], rate: float) -> Optimizer:
        return SGD(parameters, lr=rate)

    lifts_half_precision = torch.Tensor.float
    torch.Tensor.float = lambda x: x  # here it would lower the precision
    torch.set_default_dtype(torch.float64)
    try:
        batch, worst = new_batch(size), 0.0
        model = new_model()
        torch.manual_seed(2)
        expected = ShippedUpdate(model, sgd).step(batch)
        for forwards in (1, 2):
            theirs = new_model()
            replace(theirs, PLAIN)
            update = PublishedUpdate(theirs, forwards, sgd)
            torch.manual_seed(2)
            terms = update.step(batch, keep_gradient=True)
            weights = theirs.settings.loss.model_dump()
            left_out = expected.keys() - terms.keys() - {"temperature"}
            assert not any(weights[name] for name in left_out), left_out
            worst = max(worst, *(_difference(terms[name], expected[name]) for name in terms))
            for p, q in zip(model.translator.parameters(), theirs.translator.parameters(), strict=True):
                worst = max(worst, _difference(update.translator_gradient[q], p.grad))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = lifts_half_precision
    return worst


def _difference(x: Tensor, y: Tensor) -> float:
    return float((x - y).abs().max() / y.abs().max().clamp_min(1e-12))


@dataclass(frozen=True)
class Row:
    """A step in one precision, its GFLOP (matrix products and convolutions) and its process CPU seconds, by round."""

    name: str
    bf16: bool
    gflop: float
    seconds: list[float]


def measure(
    steps: Mapping[str, Callable[[], Step]], precisions: list[bool], size: int, rounds: int
) -> list[Row]:
    """All of `steps` in turn, in each precision, `rounds` times."""
    batch = new_batch(size)
    made = {name: make() for name, make in steps.items()}
    rows = []
    for bf16 in precisions:
        for name, step in made.items():
            with FlopCounterMode(display=False) as counter:
                _run(step, batch, bf16)
            rows.append(Row(name, bf16, counter.get_total_flops() / 1e9, []))
    for number in range(WARM_UP + rounds):
        for row in rows:
            start = time.process_time()
            _run(made[row.name], batch, row.bf16)
            if number >= WARM_UP:
                row.seconds.append(time.process_time() - start)
    return rows


def _run(step: Step, batch: Batch, bf16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        step(batch)


def against_published(rows: list[Row]) -> str:
    """Markdown: ratios against the published update in fp32 and in the row's own precision."""
    lines = [
        "| step | precision | GFLOP | CPU s | CPU s / published in fp32 | CPU s / published in the same precision |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        alike = next(other for other in rows if other.name == "published" and other.bf16 == row.bf16)
        lines.append(
            f"| {row.name} | {'bf16' if row.bf16 else 'fp32'} | {row.gflop:.1f} | {_median(row)} "
            f"| {_ratio(row, rows[0])} | {_ratio(row, alike)} |"
        )
    return "\n".join(lines)


def against_first(rows: list[Row], precisions: Sequence[bool], what: str) -> str:
    """Markdown: a line per step with both precisions, ratios against the first step."""
    heads = [
        head for bf16 in precisions for head in (f"CPU s, {_name(bf16)}", f"against the first, {_name(bf16)}")
    ]
    lines = [f"| {' | '.join([what, 'GFLOP', *heads])} |", f"|{'---|' * (2 + len(heads))}"]
    for name in dict.fromkeys(row.name for row in rows):
        cells = []
        for bf16 in precisions:
            alike = [row for row in rows if row.bf16 == bf16]
            row = next(row for row in alike if row.name == name)
            cells += [_median(row), _ratio(row, alike[0])]
            gflop = row.gflop
        lines.append(f"| {' | '.join([name, f'{gflop:.1f}', *cells])} |")
    return "\n".join(lines)


def _name(bf16: bool) -> str:
    return "bf16" if bf16 else "fp32"


def _median(row: Row) -> str:
    return f"{statistics.median(row.seconds):.3f}"


def _ratio(row: Row, against: Row) -> str:
    ratios = [x / y for x, y in zip(row.seconds, against.seconds, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=64, help="image side in pixels [64]")
    parser.add_argument("--rounds", type=int, default=12, help="timed steps of each kind [12]")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    difference = check_same_objective(arguments.size)
    assert difference < 1e-9, f"the two sides differ by {difference:.1e}: not the same objective"
    has = {name: bool(torch.cpu.get_capabilities().get(name)) for name in ("avx512_bf16", "amx_bf16")}
    precisions = [False, True] if any(has.values()) else [False]
    how = precisions, arguments.size, arguments.rounds
    shipped = {"shipped, as above": SIDES["shipped"]}
    variants = {name: lambda changes=changes: variant(changes) for name, changes in VARIANTS.items()}
    report = f"""# Cost of one training step

`python -m benchmarks.step {shlex.join(sys.argv[1:])}`

Concat generator at the published widths, {arguments.size} px, batch 1 + 1, two domains, content discriminator on, no
mode seeking. One thread; {arguments.rounds} timed steps of each kind after {WARM_UP}, the kinds in turn. CPU s is
process CPU time, median; ratios are of neighbouring steps, median (min to max). What exactly is compared with what: see
the heads of `benchmarks/step.py` and `benchmarks/step_published.py`.

## Against the published update

"published" is two forwards and two translator backward passes, on PyTorch's layers.

{against_published(measure(SIDES, *how))}

Loss terms and translator gradients of all of them agree in float64: largest relative difference {difference:.0e}.

## What settings cost

{against_first(measure(shipped | variants, *how), precisions, "settings")}

## What optimisations are worth

The shipped step with one thing changed: an optimisation taken back, or (the last row) one that does not pay.

{against_first(measure(shipped | CHANGED, *how), precisions, "change")}

torch {torch.__version__}, {platform.machine()}, {", ".join(f"{k}: {'yes' if v else 'no'}" for k, v in has.items())}.
"""
    print(report)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(report)


if __name__ == "__main__":
    main()
