"""What is computed where, and how much memory there is."""

import sys

import pytest
import torch

from gmvae_drit import devices
from gmvae_drit.devices import Device, choose_device
from gmvae_drit.errors import ModelError
from gmvae_drit.options import Precision

CPU = Device(torch.device("cpu"), bf16=False)


def test_without_a_gpu_auto_is_the_cpu_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", Precision.AUTO) == CPU
    assert choose_device("cpu", Precision.BF16).bf16


@pytest.mark.parametrize(("capability", "bf16"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_with_a_gpu_auto_is_bf16_where_it_is_native(monkeypatch, capability, bf16):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_device("auto", Precision.AUTO) == Device(torch.device("cuda"), bf16)
    assert not choose_device("cuda:1", Precision.FP32).bf16
    with pytest.raises(ModelError, match="--device cuda:2: this machine has 2 GPUs"):
        choose_device("cuda:2", Precision.AUTO)


@pytest.mark.parametrize("name", ["", "gpu", "mps", "meta", "cuda:x"])
def test_other_devices_are_refused(name):
    with pytest.raises(ModelError, match=f"--device {name}: choose auto, cpu, cuda or cuda:N"):
        choose_device(name, Precision.AUTO)


def test_autocast_follows_the_choice():
    for bf16, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        with Device(torch.device("cpu"), bf16).autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(("limit", "expected"), [("max\n", 2048), ("1000\n", 1000), ("99999\n", 2048)])
def test_free_memory_heeds_the_limit_of_a_container(tmp_path, monkeypatch, limit, expected):
    (tmp_path / "meminfo").write_text(
        "MemTotal:       4 kB\nMemAvailable:       2 kB\nHugePages_Total:       0\n"
    )
    (tmp_path / "max").write_text(limit)
    monkeypatch.setattr(devices, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(devices, "CONTAINER_MEMORY", tmp_path / "max")
    assert CPU.free_bytes() == expected
    monkeypatch.setattr(devices, "CONTAINER_MEMORY", tmp_path / "absent")
    assert CPU.free_bytes() == 2048


def test_a_system_that_does_not_tell_its_memory_has_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "MEMORY", tmp_path / "absent")
    assert CPU.free_bytes() == sys.maxsize
