"""Runs of the best trials and of the base with fresh seeds: whether what the search found was more than luck."""

from optuna.study import Study
from optuna.trial import TrialState

from cluster.errors import RunError
from tune.experiments import Recipe, identity
from tune.report.standing import by_rank_sum
from tune.storage import study_storage
from tune.study import DEFAULT, OF, SEED, SweepStudy, create_study

SUFFIX = "/confirm"
"""Of the name of the study that holds these runs."""


def open_confirmation(recipe: Recipe, search: Study) -> SweepStudy:
    """The study of `confirm.top` trials and the base, each with `confirm.seeds` seeds; those there are stay.

    Raises RunError where there is nothing to compare.
    """
    sweep, name = recipe.sweep, search.study_name
    complete = {
        trial.number: trial for trial in search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    }
    default = [number for number, trial in complete.items() if DEFAULT in trial.user_attrs]
    values = {number: trial.values for number, trial in complete.items() if number not in default}
    if not default or not values:
        missing = "no other trial than the base" if default else "the base's own trial has not"
        raise RunError(f"sweep {name}: nothing to confirm: {missing} completed")
    best = by_rank_sum(sweep.objectives, values, values.values())[: sweep.confirm.top]
    runs = [
        (number, recipe.base.run.seed + 1 + seed)
        for seed in range(sweep.confirm.seeds)
        for number in [*default, *best]
    ]
    plain = sweep.model_copy(update={"pruner": None})
    study = create_study(plain, identity(recipe), name + SUFFIX, study_storage(sweep))
    there = {(trial.user_attrs[OF], trial.user_attrs[SEED]) for trial in study.get_trials(deepcopy=False)}
    for number, seed in runs:
        if (number, seed) not in there:
            attributes = {OF: number, SEED: seed}
            study.enqueue_trial(complete[number].params, user_attrs=attributes)
    return SweepStudy(plain, study, len(study.get_trials(deepcopy=False)))
