"""Every family says, without torch, what its `eval_step` measures."""

import subprocess
import sys
from typing import get_args

import pytest
import tiny
import torch
from pydantic import TypeAdapter

from gmvae_drit.build import build_model
from gmvae_drit.config import ModelSettings

FAMILIES = get_args(get_args(ModelSettings)[0])
TINY = {"drit": lambda: tiny.settings(kind="drit"), "gmvae_drit": tiny.settings}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_declared_names_are_those_that_are_measured(family):
    kind = family.model_fields["kind"].default
    settings = TINY.get(kind, lambda: TypeAdapter(ModelSettings).validate_python({"kind": kind}))()
    assert type(settings) is family
    torch.manual_seed(0)
    measured = build_model(settings, ("day", "night")).eval().eval_step(tiny.batch(half=2))
    assert list(settings.held_out) == list(measured)


def test_names_need_no_torch():
    probe = "import sys, cluster.config; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert shown.stdout == "False\n"
