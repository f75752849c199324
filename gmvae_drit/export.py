"""A trained model as two files that need nothing else: `model.safetensors` and `config.yaml`."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gmvae_drit.build import build_translator
from gmvae_drit.config import ModelSettings
from gmvae_drit.errors import ModelError
from gmvae_drit.model import Model
from gmvae_drit.translator import Translator

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"


class ExportConfig(BaseModel):
    """What `config.yaml` of an export says."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal[1] = 1
    """Version of this file's layout."""
    model: ModelSettings
    """Settings the model was trained with."""
    domains: Annotated[tuple[str, ...], Field(min_length=1)]
    """Domain names; a domain's index is its place here."""
    image_size: PositiveInt
    """Short side of the training images, in pixels."""
    step: Annotated[int, Field(ge=0)]
    """Training steps behind the weights."""

    @model_validator(mode="after")
    def _enough_domains(self) -> "ExportConfig":
        if len(self.domains) < self.model.least_domains:
            raise ValueError(f"domains: a {self.model.kind} model has at least {self.model.least_domains}")
        return self


def save_export(folder: Path, model: Model, config: ExportConfig) -> None:
    """Write the export. Each file appears whole or not at all; an earlier export in `folder` is replaced.

    Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.exported().state_dict().items()}
    partial = folder / f".{WEIGHTS}.partial"
    save_file(tensors, partial)
    partial.replace(folder / WEIGHTS)
    partial = folder / f".{CONFIG}.partial"
    partial.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    partial.replace(folder / CONFIG)


def load_export(folder: Path, device: torch.device | None = None) -> tuple[Translator, ExportConfig]:
    """The translator in evaluation mode, and what its config says.

    Raises ModelError if a file is missing, damaged, or the two do not belong together.
    """
    try:
        written = yaml.safe_load((folder / CONFIG).read_text())
        newest = ExportConfig.model_fields["format"].default
        if (
            isinstance(written, dict)
            and isinstance(written.get("format"), int)
            and written["format"] > newest
        ):
            raise ModelError(
                f"{folder / CONFIG}: written by a newer version of gmvae-drit (format {written['format']}, this one "
                f"reads {newest}); upgrade gmvae-drit"
            )
        config = ExportConfig.model_validate(written)
        tensors = load_file(folder / WEIGHTS)
    except OSError as error:
        missing = error.filename or folder / WEIGHTS
        reason = error.strerror or "is missing or cannot be read"
        raise ModelError(f"{missing}: {reason}; an export holds {WEIGHTS} and {CONFIG}") from None
    except (yaml.YAMLError, SafetensorError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}: damaged export: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        path = list(fault["loc"])
        if path[:1] == ["model"]:
            del path[1:2]  # the kind, by which pydantic names the member of the union
        where = ".".join(map(str, path)) or "the file"
        raise ModelError(f"{folder / CONFIG}: {where}: {fault['msg']}") from None
    translator = build_translator(config.model, config.domains)
    expected = {name: tuple(t.shape) for name, t in translator.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if expected != found:
        name = min(name for name, _ in expected.items() ^ found.items())
        raise ModelError(
            f"{folder}: {WEIGHTS} is not of the model that {CONFIG} describes: {name} is {found.get(name, 'missing')} "
            f"instead of {expected.get(name, 'absent')}"
        )
    translator.load_state_dict(tensors)
    return translator.eval().to(device or "cpu"), config
