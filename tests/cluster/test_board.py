"""What is in TensorBoard's event files, read back as TensorBoard reads them."""

import math

import pytest
import torch
from tensorboard import data_compat
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.util import tensor_util

from cluster.board import Board
from cluster.row_parts import SHARES

SHARES_DK = [[0.5, 0.25, 0.125, 0.125], [0.0, 0.75, 0.25, 0.0]]


def row(step, **changes):
    workers = [{"images_per_second": 10.0 * rank, "data_wait": 0.1, "memory_mib": 512.0} for rank in range(2)]
    figures = {
        "step": step,
        "epoch": step / 10,
        "images_per_second": 20.0,
        "seconds": 1.7e9 + step,
        "workers": workers,
        SHARES: SHARES_DK,
        "lr/translator": 1e-4,
        "held_out/cycle": 0.5,
        "kl": float("nan"),
        "cycle": 0.25,
    }
    return figures | changes


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"histograms": 0, "scalars": 0, "images": 0})
    return accumulator.Reload()


@pytest.fixture
def board(tmp_path):
    board = Board(tmp_path, 0)
    yield board
    board.close()


def test_every_number_is_a_scalar_under_its_own_name(board, tmp_path):
    board.row(row(5))
    board.close()
    events = read(tmp_path)
    assert set(events.Tags()["scalars"]) == {
        "epoch",
        "images_per_second",
        "workers/0/images_per_second",
        "workers/0/data_wait",
        "workers/0/memory_mib",
        "workers/1/images_per_second",
        "workers/1/data_wait",
        "workers/1/memory_mib",
        "lr/translator",
        "held_out/cycle",
        "kl",
        "cycle",
    }
    (event,) = events.Scalars("workers/1/images_per_second")
    assert (event.step, event.value, event.wall_time) == (5, 10.0, 1.7e9 + 5)
    assert math.isnan(events.Scalars("kl")[0].value)


def test_the_histogram_of_a_domain_has_the_share_of_each_component(board, tmp_path):
    board.row(row(5))
    board.close()
    events = read(tmp_path)
    assert events.Tags()["histograms"] == ["components/domain_0", "components/domain_1"]
    for domain, shares in enumerate(SHARES_DK):
        (event,) = events.Histograms(f"components/domain_{domain}")
        assert event.step == 5
        assert event.histogram_value.bucket == shares
        assert event.histogram_value.bucket_limit == [0.5, 1.5, 2.5, 3.5]


def test_the_bars_as_drawn_are_one_wide_and_as_high_as_the_share(board, tmp_path):
    """TensorBoard turns histograms into (left, right, count) before it draws them."""
    board.row(row(5))
    board.close()
    (path,) = tmp_path.glob("events.*")
    values = [value for event in LegacyEventFileLoader(str(path)).Load() for value in event.summary.value]
    for domain, shares in enumerate(SHARES_DK):
        (value,) = (v for v in values if v.tag == f"components/domain_{domain}")
        drawn = tensor_util.make_ndarray(data_compat.migrate_value(value).tensor)
        expected = [[k - 0.5, k + 0.5, share] for k, share in enumerate(shares) if share]
        assert drawn.tolist() == expected


def test_a_loss_of_the_name_of_the_shares_is_a_scalar_and_no_histogram(board, tmp_path):
    board.row(row(5, **{SHARES: 0.03}))
    board.close()
    events = read(tmp_path)
    assert events.Tags()["histograms"] == []
    assert events.Scalars(SHARES)[0].value == pytest.approx(0.03)


def test_a_model_without_components_has_no_histogram(board, tmp_path):
    board.row(row(5, **{SHARES: None}))
    board.close()
    events = read(tmp_path)
    assert events.Tags()["histograms"] == []
    assert SHARES not in events.Tags()["scalars"]


def test_pictures_are_kept_by_name(board, tmp_path):
    picture = torch.randint(256, (3, 8, 12), dtype=torch.uint8)
    board.pictures(7, {"translations": picture})
    board.close()
    (image,) = read(tmp_path).Images("previews/translations")
    assert (image.step, image.height, image.width) == (7, 8, 12)


def test_a_resumed_run_hides_the_steps_that_it_trains_again(tmp_path):
    first = Board(tmp_path, 0)
    for step in (2, 4, 6):
        first.row(row(step, cycle=1.0))
    first.close()
    second = Board(tmp_path, 4)
    second.row(row(6, cycle=2.0))
    second.close()
    events = read(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("cycle")] == [(2, 1.0), (4, 1.0), (6, 2.0)]
    assert [e.step for e in events.Histograms("components/domain_0")] == [2, 4, 6]
