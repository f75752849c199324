"""What proposes the parameters of trials, in a way that a death does not change."""

import hashlib
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from tune.config import SamplerSettings

Distributions = dict[str, BaseDistribution]


class Proposals(BaseSampler):
    """Draws depend on the seed, the number of the trial and the name of the parameter, and not on what was drawn
    before: that is lost with its process, which may die between two parameters of a trial."""

    def __init__(self, settings: SamplerSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """See Optuna: what is proposed together."""
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, Any]:
        """See Optuna: one proposal of these."""
        sampler = self._sampler(trial)
        sampler.infer_relative_search_space(study, trial)  # TPE keeps what it found for this
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See Optuna: a value of one parameter by itself."""
        sampler = self._sampler(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _sampler(self, trial: FrozenTrial, name: str = "") -> BaseSampler:
        words = f"{self._seed} {trial.number} {name}"
        return make_sampler(
            self._settings, int.from_bytes(hashlib.blake2b(words.encode(), digest_size=4).digest())
        )


def make_sampler(settings: SamplerSettings, seed: int) -> BaseSampler:
    """A new one."""
    if settings.kind == "random":
        return RandomSampler(seed)
    return TPESampler(
        n_startup_trials=settings.startup, multivariate=True, group=True, constant_liar=True, seed=seed
    )
