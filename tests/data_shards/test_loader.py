"""The stream of batches: the same at any number of workers, from any step, and as augmented as promised."""

import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_shards.config import DataSettings
from data_shards.errors import DataError
from data_shards.index import SampleIndex
from data_shards.loader import Loader
from data_shards.manifest import Manifest
from data_shards.reader import SplitReader
from data_shards.samples import read_split
from data_shards.store import open_store

Batch = dict[str, Tensor]
Made = Callable[..., str]


def settings(uri: str, **changes: object) -> DataSettings:
    return DataSettings.model_validate(
        {"uri": uri, "global_batch": 8, "crop": 10, "chunk": 3, "window": 2, **changes}
    )


def take(
    settings: DataSettings, steps: int, start: int = 0, *, seed: int = 0, split: str = "train", ranks: int = 1
) -> list[Batch]:
    """Global batches, put together of those of the ranks."""
    parts = []
    for rank in range(ranks):
        loader = Loader(settings, split=split, seed=seed, rank=rank, world_size=ranks)
        parts.append(list(islice(loader.batches(start), steps)))
        loader.close()
    return [join([part[step] for part in parts]) for step in range(steps)]


def join(batches: list[Batch]) -> Batch:
    halves = {name: [batch[name].chunk(2) for batch in batches] for name in batches[0]}
    return {
        name: torch.cat([half[0] for half in parts] + [half[1] for half in parts])
        for name, parts in halves.items()
    }


def same(left: list[Batch], right: list[Batch]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


def by_sample(batches: list[Batch], steps_per_epoch: int) -> dict[tuple[int, int, int], bytes]:
    """Pixels of (domain, epoch, index)."""
    found = {}
    for step, batch in enumerate(batches):
        for image, domain, index in zip(batch["image"], batch["domain"], batch["index"], strict=True):
            found[int(domain), step // steps_per_epoch, int(index)] = image.numpy().tobytes()
    return found


def test_what_a_batch_is(make: Made) -> None:
    loader = Loader(settings(make({"b": 30, "a": 40})), seed=0)
    assert loader.domains == ("a", "b")
    assert loader.steps_per_epoch == 10
    assert loader.epoch(25) == 2.5
    batch = next(loader.batches())
    loader.close()
    assert batch["image"].shape == (8, 3, 10, 10)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous()
    assert batch["domain"].tolist() == [0] * 4 + [1] * 4
    assert batch["index"].dtype == torch.int64


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_an_epoch_shows_every_sample_once(make: Made, tail: str) -> None:
    data = settings(make({"a": 41, "b": 41}), tail=tail)
    steps = Loader(data, seed=0).steps_per_epoch
    assert steps == (10 if tail == "drop" else 11)
    batches = take(data, 2 * steps)
    for epoch in (batches[:steps], batches[steps:]):
        for domain in (0, 1):
            shown = [int(i) for batch in epoch for i in batch["index"][batch["domain"] == domain]]
            assert len(set(shown)) == (40 if tail == "drop" else 41)
            assert len(shown) - len(set(shown)) == (0 if tail == "drop" else 3)


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_number_of_workers_does_not_change_the_global_batches(make: Made, ranks: int) -> None:
    data = settings(make({"a": 45, "b": 38}))
    assert same(take(data, 25), take(data, 25, ranks=ranks))


@pytest.mark.parametrize("start", [1, 7, 10, 23])
def test_resuming_is_skipping(make: Made, start: int) -> None:
    data = settings(make({"a": 45, "b": 38, "c": 20}))
    assert same(take(data, start + 8)[start:], take(data, 8, start, ranks=2))


def test_threads_and_the_size_of_shards_do_not_change_the_batches(make: Made) -> None:
    many, one = make({"a": 45, "b": 38}), make({"a": 45, "b": 38}, "one", 10**9)
    assert len(list(Path(many, "a").glob("train-*.tar"))) > 2
    assert len(list(Path(one, "a").glob("train-*.tar"))) == 1
    slow = {"decode_threads": 1, "read_threads": 1, "read_ahead_mib": 1e-6, "ready_batches": 1}
    fast = {"decode_threads": 5, "read_threads": 9, "read_ahead_mib": 10, "ready_batches": 9}
    assert same(take(settings(many, **slow), 25), take(settings(one, **fast), 25))


def test_pairs_of_three_domains_come_equally_often(make: Made) -> None:
    data = settings(make({"a": 20, "b": 12, "c": 8}))
    loader = Loader(data, seed=0)
    assert loader.steps_per_epoch == 8  # 5 batches of the largest; two steps of three show it
    batches = take(data, 15)
    pairs = [tuple(batch["domain"][[0, 7]].tolist()) for batch in batches]
    assert {pair: pairs.count(pair) for pair in pairs} == {(0, 1): 5, (0, 2): 5, (1, 2): 5}
    # Ten batches of each in fifteen steps: the smallest domain, two batches large, was seen five times.
    shown = [int(i) for batch in batches for i in batch["index"][batch["domain"] == 2]]
    assert sorted(shown) == sorted([*range(8)] * 5)


def test_augmentation_depends_on_seed_epoch_and_sample_only(make: Made) -> None:
    uri = make({"a": 48, "b": 48})
    small = by_sample(take(settings(uri, global_batch=4, chunk=7), 48), 24)
    large = by_sample(take(settings(uri, global_batch=16, window=1), 12), 6)
    assert len(small) == 4 * 48
    assert small == large
    changed = [small[domain, 0, index] != small[domain, 1, index] for domain in (0, 1) for index in range(48)]
    assert sum(changed) > 80  # 15 crops, mirrored or not: one in thirty stays as it was
    other_seed = by_sample(take(settings(uri), 12, seed=1), 12)
    assert sum(other_seed[key] != small[key] for key in other_seed) > 80


def test_augmented_images_are_crops_mirrored_or_not(make: Made) -> None:
    uri = make({"a": 24, "b": 24})
    originals = [{}, {}]
    for domain, name in enumerate("ab"):
        originals[domain] = dict(enumerate(sample.image for sample in read_split(uri, "train", name)))
    seen = set()
    for batch in take(settings(uri), 24):
        for image, domain, index in zip(batch["image"], batch["domain"], batch["index"], strict=True):
            whole = originals[int(domain)][int(index)]
            matches = [
                (top, left, mirrored)
                for top in range(3)
                for left in range(5)
                for mirrored in (False, True)
                if torch.equal(
                    image.flip(-1) if mirrored else image, whole[:, top : top + 10, left : left + 10]
                )
            ]
            assert len(matches) == 1
            seen.update(matches)
    assert len(seen) == 3 * 5 * 2


@pytest.mark.parametrize("split", ["train", "test"])
def test_switched_off_augmentation_gives_the_stored_image(make: Made, split: str) -> None:
    uri = make({"a": 24, "b": 24})
    batch = take(settings(uri, crop=None, flip=split == "test", tail="pad"), 1, split=split)[0]
    originals = [sample.image for sample in read_split(uri, split, "a")]
    for image, index in zip(batch["image"][:4], batch["index"][:4], strict=True):
        assert torch.equal(image, originals[int(index)])


def test_evaluation_takes_the_centre(make: Made) -> None:
    uri = make({"a": 24, "b": 24})
    cropped = list(read_split(uri, "test", "b", crop=10))
    for sample, whole in zip(cropped, read_split(uri, "test", "b"), strict=True):
        assert torch.equal(sample.image, whole.image[:, 1:11, 2:12])
    for batch in take(settings(uri, tail="pad"), 4, split="test"):
        for image, index in zip(batch["image"][4:], batch["index"][4:], strict=True):
            assert torch.equal(image, cropped[int(index)].image)


def test_a_stream_ends_without_threads(make: Made) -> None:
    data = settings(make({"a": 24, "b": 24}))
    before = set(threading.enumerate())
    loader = Loader(data, seed=0)
    first, second = loader.batches(), loader.batches(3)
    next(first)
    next(second)
    assert len(set(threading.enumerate()) - before) > 0
    loader.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(StopIteration):
        next(first)


def test_a_fault_found_in_a_thread_surfaces_at_its_step(make: Made) -> None:
    uri = make({"a": 24, "b": 24})
    loader = Loader(settings(uri), seed=0)
    for shard in Path(uri, "b").glob("train-*.tar"):
        shard.write_bytes(bytes(shard.stat().st_size))
    before = set(threading.enumerate())
    with pytest.raises(DataError, match=r"of \S+/b/train-\S+\.tar changed after it was built"):
        next(loader.batches())
    assert set(threading.enumerate()) == before


def corrupt(uri: str, domain: str, *indices: int) -> None:
    """Flip a bit of these samples of the training split."""
    store = open_store(uri)
    split = Manifest.read(store).split(domain, "train")
    reader = SplitReader(store, split)
    (offset,) = SampleIndex(store, split).numbers("data_offset")
    for index in indices:
        path = Path(uri, reader.shard_of(index).path)
        data = bytearray(path.read_bytes())
        data[int(offset[index]) + 60] ^= 16
        path.write_bytes(data)


def test_a_corrupt_sample_stops_the_stream_and_is_named(make: Made) -> None:
    uri = make({"a": 24, "b": 24})
    corrupt(uri, "b", 5)
    loader = Loader(settings(uri), seed=0)
    with pytest.raises(DataError, match=r"sample 00000005 of .*/b/train-\S+\.tar changed after it was built"):
        list(islice(loader.batches(), 6))
    loader.close()


def test_another_sample_takes_the_place_of_a_corrupt_one(
    make: Made, caplog: pytest.LogCaptureFixture
) -> None:
    uri = make({"a": 24, "b": 24})
    whole = take(settings(uri, crop=None, flip=False), 12)
    originals = [sample.image for sample in read_split(uri, "train", "b")]
    corrupt(uri, "b", 5, 6, 23)
    data = settings(uri, crop=None, flip=False, on_corrupt="substitute")
    replaced = take(data, 12)
    assert same(replaced, take(data, 12, ranks=2))
    takes_the_place = {5: 7, 6: 7, 23: 0}
    for before, after in zip(whole, replaced, strict=True):
        assert torch.equal(before["image"][:4], after["image"][:4])
        for slot in range(4, 8):
            shown = takes_the_place.get(int(before["index"][slot]), int(before["index"][slot]))
            assert int(after["index"][slot]) == shown
            assert torch.equal(after["image"][slot], originals[shown])
    loader = Loader(data, seed=0)
    list(islice(loader.batches(), 12))
    caplog.clear()
    assert loader.stats().substituted >= 2 * 4  # two epochs; to replace sample 5, sample 6 was tried as well
    loader.close()


def test_stats_count_what_was_given_and_read(make: Made) -> None:
    uri = make({"a": 24, "b": 24})
    loader = Loader(settings(uri, read_ahead_mib=1e-6), seed=0)
    assert loader.stats().samples_per_second == 0
    list(islice(loader.batches(), 6))
    stats = loader.stats()
    loader.close()
    store = open_store(uri)
    manifest = Manifest.read(store)
    epoch = sum(
        SplitReader(store, manifest.split(domain, "train")).stored_bytes(np.arange(24)) for domain in "ab"
    )
    assert stats.samples == 48
    assert epoch <= stats.bytes <= 2 * epoch
    assert 0 < stats.waited <= stats.seconds
    assert stats.samples_per_second == pytest.approx(48 / stats.seconds)
    assert stats.substituted == 0


@pytest.mark.parametrize(
    ("changes", "split", "world_size", "message"),
    [
        (
            {},
            "train",
            5,
            "5 workers cannot share a global batch of 8: each needs at least one of the 4 images",
        ),
        ({}, "val", 1, "domain 'a' has no split 'val'; it has test, train"),
        (
            {"global_batch": 20},
            "test",
            1,
            "has 5 samples in split 'test', fewer than its share of the global",
        ),
        ({"crop": 13}, "train", 1, "images of 12 pixels, too small for data.crop=13"),
    ],
)
def test_impossible_batches_are_refused(
    make: Made, changes: dict[str, object], split: str, world_size: int, message: str
) -> None:
    data = settings(make({"a": 24, "b": 24}), **changes)
    with pytest.raises(DataError) as caught:
        Loader(data, split=split, seed=0, world_size=world_size)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_domain_fills_the_whole_batch(make: Made) -> None:
    uri = make({"a": 24, "b": 40})
    data = settings(uri, domains=["b"])
    loader = Loader(data, seed=0)
    assert loader.domains == ("b",)
    assert loader.steps_per_epoch == 5
    loader.close()
    batches = take(data, 5)
    assert sorted(int(i) for batch in batches for i in batch["index"]) == list(range(40))
    assert batches[0]["domain"].tolist() == [0] * 8
    shared = [list(islice(Loader(data, seed=0, rank=rank, world_size=4).batches(), 5)) for rank in range(4)]
    for step, batch in enumerate(batches):
        assert torch.equal(torch.cat([part[step]["image"] for part in shared]), batch["image"])


def test_domains_are_chosen_and_ordered_by_name(make: Made) -> None:
    uri = make({"a": 24, "b": 24, "c": 24})
    assert Loader(settings(uri, domains=["c", "a"]), seed=0).domains == ("c", "a")
    with pytest.raises(DataError, match="no domain 'z' in the data set; it has a, b, c"):
        Loader(settings(uri, domains=["a", "z"]), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"global_batch": 7}, "7 is odd"),
        ({"global_batch": 0}, "greater than or equal to 2"),
        ({"uri": "gs://bucket/digits"}, "neither a folder nor s3://"),
        ({"uri": "s3://"}, "names no bucket"),
        ({"uri": "s3://bucket/digits?region=x"}, "only .anonymous=true"),
        ({"prefetch": 3}, "Extra inputs"),
        ({"domains": ["a", "a"]}, "named twice"),
        ({"domains": []}, "at least 1"),
        ({"tail": "keep"}, "'drop' or 'pad'"),
    ],
)
def test_wrong_settings_say_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**{"uri": "somewhere", **changes})
