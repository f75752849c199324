"""The loaders that `benchmarks/loader.py` compares, one a process, and how each is measured.

    python -m benchmarks.loader_contestants ours-disk /tmp/photographs    # after --folder /tmp/photographs

Each gives batches of 16 uint8 images, (16, 3, 216, 216), cropped and mirrored at random, with two threads or worker
processes that decode, and goes on without end. Each is set up as its manual says, with its own shuffling.
"""

import argparse
import importlib
import io
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice, repeat
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.loader_data import SIDE, Data, presigned
from benchmarks.processes import cpu_of_tree, memory_of_tree, peak_memory
from data_shards.augment import RandomWindow, Window
from data_shards.config import DataSettings
from data_shards.loader import Loader
from data_shards.reader import decode

BATCH, CROP, WORKERS = 16, 216, 2
SHUFFLED = 1000  # images in the shuffle buffer of each webdataset worker: 80 MB of two, as ours holds at most
IN_MEMORY = 512  # images that are decoded in turn where nothing is read
BUCKET = "shards"

cv2.setNumThreads(0)  # in the processes of the others, too


@dataclass(frozen=True)
class Measurement:
    """What one process has shown."""

    images_per_second: float
    cpu: float
    """Seconds per 1,000 images, with those of worker processes."""
    first_batch: float = 0.0
    """Seconds from opening the data to the first batch."""
    memory: float = 0.0
    """MiB in the steady state, with worker processes, shared pages counted once (PSS)."""


def ours(uri: str, **changes: Any) -> Iterator[Tensor]:
    """The loader of this project; two domains of eight images."""
    loader = Loader(DataSettings(uri=uri, global_batch=BATCH, crop=CROP, **changes), seed=0)
    return (batch["image"] for batch in loader.batches())


def webdataset(urls: Sequence[str], batch: Callable[[list[bytes]], Tensor]) -> Iterator[Tensor]:
    """Stock webdataset over the same tars. A batch is made in the worker, which is faster than collation."""
    import webdataset as wds

    dataset = wds.WebDataset(list(urls), resampled=True, shardshuffle=False).shuffle(SHUFFLED)
    dataset = dataset.to_tuple("jpg").map(lambda sample: sample[0]).batched(BATCH, collation_fn=batch)
    return iter(wds.WebLoader(dataset, batch_size=None, num_workers=WORKERS))


def mosaic(local: Path, remote: str | None = None) -> Iterator[Tensor]:
    """mosaicml-streaming: endless from disk, one epoch where it fills its cache from the bucket."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from torch.utils.data import DataLoader

    class Photographs(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: int) -> Tensor:
            return augment(super().__getitem__(at)["image"].convert("RGB"))

    clean_stale_shared_memory()
    augment = pil_augmentation()
    dataset = Photographs(local=str(local), remote=remote, shuffle=True, batch_size=BATCH)
    loader: DataLoader[Tensor] = DataLoader(
        dataset, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True
    )
    return chain.from_iterable([loader] if remote else repeat(loader))


def image_folder(folder: Path) -> Iterator[Tensor]:
    """torchvision's, drawn with replacement, so that no end of an epoch stops it."""
    from torch.utils.data import DataLoader, RandomSampler
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(folder), transform=pil_augmentation())
    sampler = RandomSampler(dataset, replacement=True, num_samples=10**9)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, num_workers=WORKERS)
    return (images for images, _ in loader)


def pil_augmentation() -> Callable[[Any], Tensor]:
    """Crop and flip by torchvision, of Pillow's images."""
    from torchvision import transforms

    crop, flip = transforms.RandomCrop(CROP), transforms.RandomHorizontalFlip()
    augment: Callable[[Any], Tensor] = transforms.Compose([crop, flip, transforms.PILToTensor()])
    return augment


def pil_batch() -> Callable[[list[bytes]], Tensor]:
    """Makes a batch as users of Pillow do."""
    from PIL import Image

    augment = pil_augmentation()
    return lambda encoded: torch.stack(
        [augment(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]
    )


def cv2_batch(encoded: list[bytes]) -> Tensor:
    """Makes a batch with the functions of this project."""
    choices = SIDE - CROP + 1
    windows = (
        Window(random.randrange(choices), random.randrange(choices), CROP, CROP, random.random() < 0.5)
        for _ in encoded
    )
    return decoded(encoded, windows)


def decoded(encoded: Iterable[bytes], windows: Iterable[Window]) -> Tensor:
    """Decode, cut and lay out: all that must be done to have a batch."""
    images = torch.empty((BATCH, 3, CROP, CROP), dtype=torch.uint8)
    for planes, data, window in zip(images.numpy(), encoded, windows, strict=True):
        cv2.split(window.cut(decode(data)), list(planes))
    return images


def cold_cache(mds: Path) -> Path:
    """A folder without shards for mosaicml-streaming, but with their index.

    Where it had to fetch the index, too, some runs waited for 60 s or ended in an IndexError of a shard; none have
    since. Its forked workers probably shared the connection that this had opened.
    """
    folder = Path(tempfile.mkdtemp())
    shutil.copy(mds / "index.json", folder)
    return folder


STREAMS: dict[str, Callable[[Data], Iterator[Tensor]]] = {
    "ours-disk": lambda data: ours(str(data.shards)),
    "ours-s3": lambda data: ours(data.remote_shards),
    "webdataset-cv2-disk": lambda data: webdataset(data.tars(), cv2_batch),
    "webdataset-cv2-s3": lambda data: webdataset(presigned(data.bucket, "shards"), cv2_batch),
    "webdataset-pil-disk": lambda data: webdataset(data.tars(), pil_batch()),
    "webdataset-pil-s3": lambda data: webdataset(presigned(data.bucket, "shards"), pil_batch()),
    "mosaic-disk": lambda data: mosaic(data.mds),
    "mosaic-s3": lambda data: mosaic(cold_cache(data.mds), data.remote_mds),
    "imagefolder-disk": lambda data: image_folder(data.files),
}
# What a contestant imports, which is no part of its time to the first batch.
MODULES = {
    "webdataset": "webdataset",
    "webdataset-pil": "torchvision.transforms",
    "mosaic": "streaming",
    "imagefolder": "torchvision.datasets",
}


def measure(opened: Callable[[], Iterator[Tensor]], warm_up: float, seconds: float) -> Measurement:
    """The steady state of a stream: batches of ``seconds`` after ``warm_up`` seconds of them."""
    start = time.monotonic()
    batches = opened()
    first = next(batches)
    first_batch = time.monotonic() - start
    assert first.shape == (BATCH, 3, CROP, CROP), first.shape
    assert first.dtype == torch.uint8
    counted(batches, warm_up)
    cpu, start = cpu_of_tree(), time.monotonic()
    images = counted(batches, seconds)
    took, cpu = time.monotonic() - start, cpu_of_tree() - cpu
    return Measurement(images / took, 1000 * cpu / images, first_batch, memory_of_tree())


def counted(batches: Iterator[Tensor], seconds: float) -> int:
    """Images that come in this time."""
    end, images = time.monotonic() + seconds, 0
    for batch in batches:
        images += len(batch)
        if time.monotonic() > end:
            break
    return images


def measure_decoding(data: Data, warm_up: float, seconds: float) -> Measurement:
    """The ceiling: two threads that decode what lies in memory, and nothing besides."""
    encoded, windows = in_memory(data)
    counts = [0] * WORKERS

    def work(thread: int) -> None:
        for start in chain.from_iterable(repeat(range(0, IN_MEMORY, BATCH))):
            decoded(encoded[start : start + BATCH], windows[start : start + BATCH])
            counts[thread] += BATCH
            if ended.is_set():
                return

    ended = threading.Event()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    time.sleep(warm_up)
    before, cpu, start = sum(counts), time.process_time(), time.monotonic()
    time.sleep(seconds)
    images, cpu, took = sum(counts) - before, time.process_time() - cpu, time.monotonic() - start
    ended.set()
    for thread in threads:
        thread.join()
    return Measurement(images / took, 1000 * cpu / images)


def measure_decoding_processes(data: Data, warm_up: float, seconds: float) -> Measurement:
    """The same in two processes, which share no interpreter lock."""
    encoded, windows = in_memory(data)

    def work(result: Connection) -> None:
        def batches() -> Iterator[Tensor]:
            for start in chain.from_iterable(repeat(range(0, IN_MEMORY, BATCH))):
                yield decoded(encoded[start : start + BATCH], windows[start : start + BATCH])

        one = measure(batches, warm_up, seconds)
        result.send((one.images_per_second, one.cpu))

    context = get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(WORKERS)]
    processes = [context.Process(target=work, args=(sender,)) for _, sender in pipes]
    for process in processes:
        process.start()
    rates, cpus = zip(*(receiver.recv() for receiver, _ in pipes), strict=True)
    for process in processes:
        process.join()
    return Measurement(sum(rates), float(np.average(cpus, weights=rates)))


def in_memory(data: Data) -> tuple[list[bytes], list[Window]]:
    """Encoded images of all domains and their windows."""
    files = sorted(data.files.rglob("*.jpg"))
    chosen = islice(files, 0, None, max(1, len(files) // IN_MEMORY))
    encoded = [path.read_bytes() for path in islice(chosen, IN_MEMORY)]
    window = RandomWindow(seed=0, crop=CROP, flip=True)
    return encoded, [window(0, 0, index, SIDE, SIDE) for index in range(IN_MEMORY)]


CEILINGS = {"decoding-threads": measure_decoding, "decoding-processes": measure_decoding_processes}


def memory_over_epochs(data: Data, epochs: int) -> list[float]:
    """MiB of this process before our loader is made, and its peak by the end of each epoch (VmHWM)."""
    seen = [peak_memory()]
    loader = Loader(DataSettings(uri=str(data.shards), global_batch=BATCH, crop=CROP), seed=0)
    batches = loader.batches()
    for _ in range(epochs):
        for _ in range(loader.steps_per_epoch):
            next(batches)
        seen.append(peak_memory())
    loader.close()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=[*STREAMS, *CEILINGS, "memory", "curve"])
    parser.add_argument("folder", type=Path, help="where `loader_data.make` has been")
    parser.add_argument("--warm-up", type=float, default=1.5, help="seconds [1.5]")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured [5]")
    parser.add_argument("--epochs", type=int, default=8, help="of `memory` [8]")
    parser.add_argument("--settings", type=json.loads, default={}, help="of `curve`: data settings as JSON")
    arguments = parser.parse_args()
    data, name = Data(arguments.folder, BUCKET), arguments.name
    if name == "memory":
        print(json.dumps(memory_over_epochs(data, arguments.epochs)), flush=True)
        return
    if name in CEILINGS:
        result = CEILINGS[name](data, arguments.warm_up, arguments.seconds)
    else:
        for module in (module for kind, module in MODULES.items() if name.startswith(kind)):
            importlib.import_module(module)
        streams = STREAMS | {"curve": lambda data: ours(data.remote_shards, **arguments.settings)}
        result = measure(lambda: streams[name](data), arguments.warm_up, arguments.seconds)
    print(json.dumps(asdict(result)), flush=True)
    os._exit(0)  # loaders that are in the midst of their work would take their time to end


if __name__ == "__main__":
    main()
