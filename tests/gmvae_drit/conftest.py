"""Makes `tiny` importable, keeps torch to one thread, and offers double precision."""

import sys
from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("gmvae_drit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("gmvae_drit")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def double(monkeypatch):
    """float64 throughout. The networks lift half precision by `.float()`, which would lower it here."""
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
