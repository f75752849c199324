"""What a step costs on machines that are assumed: collectives, overlap with the backward pass, failures.

The constants are what is assumed, each with its source. `benchmarks/scaling.py` has the command and prints the tables,
`benchmarks/scaling_step.py` counts what a step holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from benchmarks.scaling_step import Bucket, StepCount
from cluster.config import Experiment

GPUS_PER_NODE = 8


@dataclass(frozen=True)
class Machine:
    """A node of eight GPUs: peaks of the vendor's data sheet."""

    name: str
    bf16: float  # FLOP/s, dense
    memory_rate: float  # bytes/s
    memory: float  # bytes
    nvlink: float  # bytes/s per GPU and direction
    network: float  # bytes/s per node and direction
    vcpus: int  # per node


# NVIDIA data sheets of H100 SXM and A100 80GB SXM; network and vCPUs: AWS, instance types p5 and p4de.
H100 = Machine("8 x H100 (p5.48xlarge)", 989e12, 3.35e12, 80e9, 450e9, 3200e9 / 8, 192)
A100 = Machine("8 x A100 80 GB (p4de.24xlarge)", 312e12, 2.039e12, 80e9, 300e9, 400e9 / 8, 96)
SLOW = replace(
    H100, name="8 x H100, 25 Gb/s per node", network=25e9 / 8
)  # a cluster without RDMA, to see what breaks

MATRIX_SHARE = 0.40  # of peak FLOP/s that convolutions reach; assumed
MEMORY_SHARE = 0.70  # of peak memory rate that other operators reach; assumed
LINK_SHARE = 0.70  # of line rate that a collective reaches; assumed
PER_OPERATOR = 8e-6  # s of the host to launch one; assumed: eager PyTorch, no CUDA graph
USABLE_MEMORY = 0.85  # of the GPU's; assumed: the rest is workspace, NCCL and fragmentation
# Latencies of NCCL's own cost model, NVIDIA/nccl src/graph/tuning.cc (commit 01afd20), Ring/Simple and Tree/LL128.
RING_BASE, RING_NVLINK, RING_NETWORK = 8.4e-6, 3.4e-6, 9.6e-6
TREE_BASE, TREE_NVLINK, TREE_NETWORK = 4.4e-6, 1.2e-6, 8.5e-6
TREE_SHARE = 0.9 * 0.915  # of a ring's bandwidth, same file
GLOO_HOP = 25e-6  # s; assumed: one message between two processes over kernel TCP
JITTER = 0.02  # standard deviation of a rank's step time, as a share of it; assumed, normal and independent
GPU_HOURS_PER_FAILURE = (
    16_384 * 54 * 24 / 419
)  # Llama 3 (arXiv:2407.21783, section 3.3.4): 54 days, 419 interruptions
RESTART = 180.0  # s from a failure to the next step, NCCL's and Ray's start included; assumed
UPLOAD = (
    90e6  # bytes/s of one connection; AWS, "Performance guidelines for Amazon S3": 85 to 90 MB/s per request
)
GETS_PER_PREFIX = 5500  # per second; AWS, "Best practices design patterns: optimizing Amazon S3 performance"
CPU_PER_IMAGE = 0.748e-3  # s to read from S3 and decode; measured, benchmarks/results/loader.md
LOADER_BASE = 566 * 2**20  # bytes of a worker with torch imported; measured, the same file


NCCL = "NVIDIA/nccl, src/graph/tuning.cc at 01afd20"
ASSUMPTIONS: tuple[tuple[str, str, str], ...] = (
    ("peaks of H100 SXM and A100 80GB SXM", "above", "NVIDIA data sheets, dense bf16; NVLink per direction"),
    ("network, vCPUs", "above", "AWS, instance types p5 and p4de; the third machine is made up"),
    ("share of peak FLOP/s, matrix products", f"{MATRIX_SHARE:.0%}", "assumed"),
    ("share of HBM rate, other operators", f"{MEMORY_SHARE:.0%}", "assumed"),
    ("share of line rate, collectives", f"{LINK_SHARE:.0%}", "assumed"),
    ("host time to launch an operator", f"{1e6 * PER_OPERATOR:.0f} µs", "assumed: eager, no CUDA graph"),
    ("usable GPU memory", f"{USABLE_MEMORY:.0%}", "assumed"),
    ("ring: start, hop by NVLink, by network", "8.4, 3.4, 9.6 µs", NCCL),
    ("tree: start, hop by NVLink, by network", "4.4, 1.2, 8.5 µs; 82 % of a ring's rate", NCCL),
    (
        "gloo: one hop over TCP",
        f"{1e6 * GLOO_HOP:.0f} µs",
        "assumed; 2 (N - 1) hops: pytorch/gloo, gloo/allreduce.cc",
    ),
    ("jitter of a rank's step", f"{JITTER:.0%}", "assumed, normal, independent; Blom's expected maximum"),
    (
        "GPU hours per failure",
        f"{GPU_HOURS_PER_FAILURE:,.0f}",
        "Llama 3, arXiv:2407.21783: 16,384 H100, 54 days, 419",
    ),
    ("restart", f"{RESTART:.0f} s", "assumed"),
    (
        "upload by one connection",
        f"{UPLOAD / 1e6:.0f} MB/s",
        "AWS, performance guidelines for Amazon S3: 85 to 90",
    ),
    ("GETs per prefix", f"{GETS_PER_PREFIX:,}/s", "AWS, optimizing Amazon S3 performance"),
    (
        "CPU to read and decode an image",
        f"{1e3 * CPU_PER_IMAGE:.2f} ms",
        "measured: results/loader.md, from S3",
    ),
    ("worker before it reads", f"{LOADER_BASE / 2**20:.0f} MiB", "measured: results/loader.md"),
)


@dataclass(frozen=True)
class Step:
    """Where the seconds of one step go."""

    compute: float
    all_reduce: float
    """Of gradients, as far as no backward pass hides it."""
    usage: float
    stop: float
    straggler: float

    @property
    def exposed(self) -> float:
        """Communication that the GPU waits for."""
        return self.all_reduce + self.usage + self.stop

    @property
    def total(self) -> float:
        """Seconds of the step."""
        return self.compute + self.exposed + self.straggler


def ring(size: float, gpus: int, m: Machine) -> float:
    """All-reduce by a flat ring: 2 (N - 1) / N * S / B + 2 (N - 1) hops, 2 (nodes - 1) of them over the network."""
    if gpus == 1:
        return 0.0
    nodes = -(-gpus // GPUS_PER_NODE)
    rate = LINK_SHARE * (m.nvlink if nodes == 1 else min(m.nvlink, m.network))
    far = 2 * (nodes - 1)
    return RING_BASE + (2 * (gpus - 1) - far) * RING_NVLINK + far * RING_NETWORK + volume(gpus) * size / rate


def tree(size: float, gpus: int, m: Machine) -> float:
    """All-reduce by double trees: 2 S / B, and a latency that grows with log2 of the nodes."""
    if gpus == 1:
        return 0.0
    nodes = -(-gpus // GPUS_PER_NODE)
    rate = LINK_SHARE * TREE_SHARE * (m.nvlink if nodes == 1 else min(m.nvlink, m.network))
    hops = 2 * ((gpus // nodes - 1) * TREE_NVLINK + math.log2(nodes) * TREE_NETWORK)
    return TREE_BASE + hops + 2 * size / rate


def two_level(size: float, gpus: int, m: Machine) -> float:
    """Reduce-scatter in the node, a ring of nodes for each eighth, all-gather in the node."""
    nodes = -(-gpus // GPUS_PER_NODE)
    inside = ring(size, min(gpus, GPUS_PER_NODE), m)
    if nodes == 1:
        return inside
    hops = 2 * (nodes - 1) * RING_NETWORK
    return inside + RING_BASE + hops + volume(nodes) * size / (LINK_SHARE * m.network)


def volume(gpus: int) -> float:
    """Bytes that each rank sends in a ring all-reduce, as a multiple of the message: 2 (N - 1) / N."""
    return 2 * (gpus - 1) / gpus


def all_reduce(size: float, gpus: int, m: Machine) -> float:
    """What NCCL takes of the two that it has, the faster one."""
    return min(ring(size, gpus, m), tree(size, gpus, m))


def exposed(buckets: Sequence[Bucket], backward: float, gpus: int, m: Machine) -> float:
    """Seconds from the end of a backward pass to the end of its all-reduces, which run one after the other."""
    end = 0.0
    for bucket in buckets:
        end = max(end, bucket.ready * backward) + all_reduce(bucket.size, gpus, m)
    return max(0.0, end - backward)


def host_bound(count: StepCount, m: Machine) -> bool:
    """Whether launching the work takes longer than the work."""
    return compute_time(count, m) <= count.operators * PER_OPERATOR


def compute_time(count: StepCount, m: Machine) -> float:
    """The larger of what the GPU needs and what the host needs to launch the work."""
    gpu = count.flops / (MATRIX_SHARE * m.bf16) + count.bytes_moved / (MEMORY_SHARE * m.memory_rate)
    return max(gpu, count.operators * PER_OPERATOR)


def gradients(count: StepCount, gpus: int, m: Machine, experiment: Experiment) -> float:
    """Exposed seconds of all networks' all-reduces. A backward pass takes its share of the step by FLOPs."""
    compute = compute_time(count, m)
    return sum(
        exposed(part.buckets, compute * part.backward_flops / count.flops, gpus, m)
        / update_every(name, experiment)
        for name, part in count.parts.items()
    )


def step_time(count: StepCount, gpus: int, m: Machine, experiment: Experiment) -> Step:
    """One step of ``count.batch`` images per GPU."""
    compute, reduce = compute_time(count, m), gradients(count, gpus, m, experiment)
    usage = 2 * all_reduce(16, gpus, m)  # two in a row in gmvae_drit.mixture; nothing hides them
    worst = NormalDist().inv_cdf((gpus - 0.375) / (gpus + 0.25))  # Blom: expected largest of N normal numbers
    straggler = JITTER * max(worst, 0.0) * compute
    stop = max(
        0.0, stop_agreement(gpus) - (compute + reduce + usage + straggler)
    )  # cluster.stop: a step's time
    return Step(compute, reduce, usage, stop, straggler)


def stop_agreement(gpus: int) -> float:
    """Gloo's ring passes one number on 2 (N - 1) times (pytorch/gloo gloo/allreduce.cc, no algorithm given)."""
    return 2 * (gpus - 1) * GLOO_HOP


def update_every(network: str, experiment: Experiment) -> int:
    """Steps from one update of a network to the next."""
    settings = getattr(experiment.model, "content_discriminator", None)
    return settings.every if network == "content_discriminator" and settings else 1


def young(cost: float, mean_time: float) -> float:
    """Seconds between checkpoints that lose least: sqrt(2 C M) (Young 1974)."""
    return math.sqrt(2 * cost * mean_time)


def daly(cost: float, mean_time: float) -> float:
    """The same to higher order (Daly 2006, eq. 37): sqrt(2 C M) (1 + sqrt(C / 2M) / 3 + C / 18M) - C."""
    if cost >= 2 * mean_time:
        return mean_time
    ratio = cost / (2 * mean_time)
    return young(cost, mean_time) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost


def lost(interval: float, cost: float, mean_time: float) -> float:
    """Share of time that saving every ``interval`` s, repeating half an interval per failure and restarting take."""
    return min(1.0, cost / (interval + cost) + (interval / 2 + RESTART) / mean_time)
