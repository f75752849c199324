"""Settings of `cluster.judge`. Free of torch, so that configurations are checked fast."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from gmvae_drit.settings import Best, Settings


class JudgeSettings(Settings):
    """Judge translations of test images in every direction, at each evaluation."""

    metrics: ClassVar[Mapping[str, Best]] = {"kid": "lowest", "diversity": "highest", "label_kept": "highest"}
    """What is measured; `label_kept` where two domains or more carry labels."""

    features: Literal["efficientnet-lite0", "classifier", "pixels"]
    """Where KID is taken: `efficientnet-lite0` (`diversity` is then perceptual, else that of pixels), `classifier` (of
    the real train images by `label`, for data that have labels), or `pixels`. An evaluation in two directions at
    `images` = 64 and 32 px costs one core 4.2 s, 0.7 s, 0.5 s (networks of the demo, fp32, measured)."""
    train_images: PositiveInt = 2000
    """Labelled train images of each domain, at most, that classifiers learn from, where there are labels. Each costs
    one core 19 ms at 32 px (measured), once for all runs of a process on the same data."""
    images: Annotated[int, Field(ge=3)] = 64
    """Test images of each domain that are translated, and as many real ones that the translations are compared with,
    at most; at least 3. The workers share them."""

    def measured(self, labelled: bool) -> dict[str, Best]:
        """What is measured on data with or without labels."""
        return {name: best for name, best in self.metrics.items() if labelled or name != "label_kept"}
