"""The tables of `benchmarks/scaling.py`, as Markdown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from benchmarks import scaling_costs as costs
from benchmarks.scaling_costs import A100, GPUS_PER_NODE, H100, SLOW, Machine, Step, step_time
from benchmarks.scaling_step import Bucket, StepCount, at_batch
from cluster.config import Experiment

SMALLER_DOMAIN = 995  # training images of apple (CycleGAN data set); orange has 1,019
SIZES = (8, 64, 512)
MB, MIB = 1e6, 2**20


@dataclass(frozen=True)
class Plan:
    """What is known of a configuration before any machine is assumed."""

    experiment: Experiment
    two: StepCount
    four: StepCount
    checkpoint_bytes: int
    checkpoint_seconds: float
    jpegs: list[int]

    def count(self, batch: int) -> StepCount:
        """The step at ``batch`` images per GPU."""
        return at_batch(self.two, self.four, batch)

    def step(self, batch: int, gpus: int, machine: Machine) -> Step:
        """Its seconds."""
        return step_time(self.count(batch), gpus, machine, self.experiment)

    @property
    def images(self) -> int:
        """Images that the whole run sees."""
        return self.experiment.train.steps * self.experiment.data.global_batch

    @property
    def save(self) -> float:
        """Seconds in which rank 0 saves and all others wait for it: serialise, then upload by one connection."""
        return self.checkpoint_seconds + self.checkpoint_bytes / costs.UPLOAD

    @property
    def state(self) -> int:
        """Bytes on the GPU besides activations: what a checkpoint has, and gradients with DDP's copy of them."""
        return self.checkpoint_bytes + 2 * 4 * sum(p.parameters for p in self.two.parts.values())

    def largest_batch(self, machine: Machine) -> int:
        """Images per GPU that fit its memory, an even number."""
        per_image = (self.four.bytes_kept - self.two.bytes_kept) / 2
        return int((costs.USABLE_MEMORY * machine.memory - self.state) / per_image) // 2 * 2


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    """Markdown."""
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def networks(plan: Plan) -> str:
    """Parameters, gradients and buckets."""
    rows = []
    for name, part in plan.two.parts.items():
        every = costs.update_every(name, plan.experiment)
        buckets = ", ".join(f"{b.size / MIB:.1f} MiB at {b.ready:.0%}" for b in part.buckets)
        share = f"{part.backward_flops / plan.two.flops:.1%}"
        rows.append([name, f"{part.parameters:,}", f"{4 * part.parameters / MB:.1f}", every, share, buckets])
    total = sum(part.parameters for part in plan.two.parts.values())
    rows.append(["**all**", f"{total:,}", f"{4 * total / MB:.1f}", "", "", ""])
    head = (
        "network | parameters | gradient, MB (fp32) | every n-th step | its backward, of the step's FLOP | "
        "buckets: size at share of the backward pass done"
    )
    return table(head, rows)


def traffic(plan: Plan) -> str:
    """Bytes per step and GPU, and how long single all-reduces take."""
    parts, rows, machines = plan.two.parts, [], (H100, A100, SLOW)
    size = sum(4 * p.parameters / costs.update_every(n, plan.experiment) for n, p in parts.items())
    gradient = 4 * parts["translator"].parameters
    for gpus in SIZES:
        times = [
            " / ".join(
                f"{1e3 * how(gradient, gpus, m):.2f}" for how in (costs.ring, costs.tree, costs.two_level)
            )
            for m in machines
        ]
        small, stop = 1e6 * costs.all_reduce(16, gpus, H100), 1e3 * costs.stop_agreement(gpus)
        rows.append([gpus, f"{costs.volume(gpus) * size / MB:.0f}", *times, f"{small:.0f}", f"{stop:.2f}"])
    head = " | ".join(m.name for m in machines)
    return table(f"GPUs | sent per step and GPU, MB | {head} | 16 bytes, H100, µs | stop flag, ms", rows)


def computing(plan: Plan) -> str:
    """Seconds of one GPU without any other."""
    rows = []
    for machine in (H100, A100):
        for batch in sorted({2, 16, plan.largest_batch(machine)}):
            count = plan.count(batch)
            seconds = costs.compute_time(count, machine)
            row = [machine.name[4:].split(" (")[0], batch, f"{count.flops / 1e12:.2f}"]
            row += [f"{count.bytes_moved / 1e9:.1f}", f"{(count.bytes_kept + plan.state) / 1e9:.1f}"]
            row += [f"{1e3 * seconds:.1f}", "host" if costs.host_bound(count, machine) else "GPU"]
            row += [f"{count.flops / seconds / machine.bf16:.0%}", f"{batch / seconds:.0f}"]
            rows.append([*row, f"{plan.images / batch * seconds / 3600:.1f}"])
    head = "GPU | images | TFLOP | GB moved by other operators | GB on the GPU | ms | bound by | of peak | images/s"
    return table(f"{head} | hours for {plan.images:,} images", rows)


def weak(plan: Plan, batch: int, machine: Machine) -> str:
    """Images per GPU fixed."""
    rows, alone = [], costs.compute_time(plan.count(batch), machine)
    for gpus in SIZES:
        step, total = plan.step(batch, gpus, machine), batch * gpus
        mtbf = 3600 * costs.GPU_HOURS_PER_FAILURE / gpus
        interval = costs.daly(plan.save, mtbf)
        failing = costs.lost(interval, plan.save, mtbf)
        efficiency = alone / step.total * (1 - failing)
        rate = total / alone * efficiency
        losses = {
            "all-reduce of gradients": step.all_reduce / step.total,
            "small all-reduces": step.usage / step.total,
            "stop flag": step.stop / step.total,
            "stragglers": step.straggler / step.total,
            "failures and checkpoints": failing,
        }
        worst = max(losses, key=lambda name: losses[name])
        first = f"{worst} ({losses[worst]:.1%})"
        if total // 2 > SMALLER_DOMAIN:
            first = f"**the data set is too small**; then {first}"
        row = [gpus, f"{total:,}", f"{1e3 * step.compute:.1f}", f"{1e3 * step.exposed:.2f}"]
        row += [f"{1e3 * step.straggler:.2f}", f"{efficiency:.0%}", f"{rate:,.0f}"]
        read = rate * mean(plan.jpegs) / MB
        row += [
            f"{read:,.0f} / {read / (gpus / GPUS_PER_NODE):.0f}",
            f"{rate / plan.experiment.data.chunk:.0f}",
        ]
        row += [f"{costs.CPU_PER_IMAGE * rate / gpus:.2f} of {machine.vcpus / GPUS_PER_NODE:.0f}"]
        row += [f"{plan.checkpoint_bytes / 1e9:.2f} GB, {plan.save:.1f} s", f"{mtbf / 3600:,.0f}"]
        rows.append([*row, f"{interval / step.total:,.0f} steps, {interval / 60:.0f} min", first])
    return table(
        "GPUs | global batch | compute, ms | exposed communication, ms | stragglers, ms | efficiency | images/s | "
        "S3 MB/s: all / per node | GETs/s | vCPUs to decode, per GPU | checkpoint | hours between failures | "
        "checkpoint every | breaks first",
        rows,
    )


def strong(plan: Plan, machine: Machine) -> str:
    """Images per step fixed. Efficiency is against one GPU at the largest batch that fits."""
    rows, largest = [], plan.largest_batch(machine)
    best = costs.compute_time(plan.count(largest), machine) / largest
    for total in (2, 16, 128, 1024):
        cells = []
        for gpus in (1, *SIZES):
            batch = total // gpus
            if batch < 2:
                cells.append(f"impossible below a global batch of {2 * gpus:,}")
            elif batch > largest:
                cells.append(f"{batch} images do not fit, {largest} do")
            else:
                seconds = plan.step(batch, gpus, machine).total
                minutes = plan.images / total * seconds / 60
                cells.append(
                    f"{1e3 * seconds:.1f} ms, {total * best / (gpus * seconds):.0%}, {minutes:,.1f} min"
                )
        rows.append([f"{total:,}", f"{plan.images // total:,}", *cells])
    return table("global batch | steps | 1 GPU | 8 GPUs | 64 GPUs | 512 GPUs", rows)


def levers(plan: Plan, batch: int) -> str:
    """Exposed all-reduces of gradients at 512 GPUs, with the buckets changed."""
    rows, count = [], plan.count(batch)

    def milliseconds(change: Callable[[tuple[Bucket, ...]], tuple[Bucket, ...]], machine: Machine) -> str:
        parts = {k: replace(part, buckets=change(part.buckets)) for k, part in count.parts.items()}
        changed = replace(count, parts=parts)
        return f"{1e3 * costs.gradients(changed, SIZES[-1], machine, plan.experiment):.2f}"

    changes: dict[str, Callable[[tuple[Bucket, ...]], tuple[Bucket, ...]]] = {
        "as shipped": lambda buckets: buckets,
        "bf16 compression hook: half the bytes": lambda buckets: tuple(
            replace(b, size=b.size // 2) for b in buckets
        ),
        "one bucket per network (`bucket_cap_mb=100`)": lambda buckets: (
            Bucket(sum(b.size for b in buckets), 1.0),
        ),
    }
    for name, change in changes.items():
        rows.append([name, *(milliseconds(change, m) for m in (H100, A100, SLOW))])
    return table(f"{SIZES[-1]} GPUs | {' | '.join(m.name for m in (H100, A100, SLOW))}", rows)


def hosts(plan: Plan) -> str:
    """Memory of a worker for reading, and what a run asks of S3."""
    data, size, rows = plan.experiment.data, mean(plan.jpegs), []
    for batch in (2, 16):
        windows = batch * data.window * data.chunk * size
        memory = costs.LOADER_BASE + windows + data.read_ahead_mib * MIB
        rows.append([batch, f"{windows / MIB:.0f}", f"{memory / MIB:.0f}", f"{8 * memory / 2**30:.1f}"])
    return table("images per worker | windows, MiB at most | worker, MiB | node of 8, GiB", rows)


def assumptions() -> str:
    """The constants."""
    rows = [
        [m.name, f"{m.bf16 / 1e12:.0f}", f"{m.memory_rate / 1e12:.2f}", f"{m.memory / 1e9:.0f}",
         f"{m.nvlink / 1e9:.0f}", f"{m.network / 1e9:.1f}", m.vcpus]
        for m in (H100, A100, SLOW)
    ]  # fmt: skip
    head = "machine | bf16 TFLOP/s | HBM TB/s | GB | NVLink GB/s per GPU | network GB/s per node | vCPUs per node"
    return table(head, rows) + "\n\n" + table("what | value | from", costs.ASSUMPTIONS)
