"""Schedules: functions of the progress of a run, never of anything that a checkpoint could forget."""

import math

from gmvae_drit.config import GumbelSettings, OptimizerSettings
from gmvae_drit.model import Progress


def gumbel_temperature(settings: GumbelSettings, progress: Progress) -> float:
    """tau = max(min_temp, init_temp * exp(-decay_temp_rate * epoch)) (arXiv:1611.01144, section 3)."""
    tau = settings.init_temp * math.exp(-settings.decay_temp_rate * math.floor(progress.epoch))
    return max(settings.min_temp, tau)


def linear_decay(start: float, progress: Progress) -> float:
    """1 until the share `start` of the run is done, then linearly down to 0 at its end."""
    if progress.fraction <= start:
        return 1.0
    return (1.0 - progress.fraction) / (1.0 - start)


def linear_warmup(share: float, progress: Progress) -> float:
    """0 to 1 over the first `share` of the run, then 1."""
    return 1.0 if share == 0 else min(1.0, progress.fraction / share)


def cosine_decay(progress: Progress) -> float:
    """1 at the start of the run to 0 at its end, along half a cosine (arXiv:1608.03983, eq. 5)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress.fraction))


def ttur_factors(ttur: OptimizerSettings) -> tuple[float, float]:
    """Factors of the translator's and of the discriminators' learning rate (arXiv:1706.08500)."""
    if isinstance(ttur.ttur, float):
        return ttur.ttur, 1.0
    return {"none": (1.0, 1.0), "double_gen_enc": (2.0, 1.0), "half_discr": (1.0, 0.5)}[ttur.ttur]


def ema_decay(decay: float, progress: Progress) -> float:
    """Decay of the averaged weights at this step, such that the weights before training have no part in them.

    After step t the average is sum_i decay^(t-i) w_i / sum_i decay^(t-i) over the steps i = 0 … t: the bias correction
    of Adam's moments (arXiv:1412.6980, section 3).
    """
    t = progress.step
    return decay * (1 - decay**t) / (1 - decay ** (t + 1))
