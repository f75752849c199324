"""What a run says of its translations while it trains, against a second computation on the same draws."""

import functools
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from toy import Watching

from cluster.config import Experiment, held_out_metrics
from cluster.engine import Engine, Place
from cluster.errors import RunError
from cluster.held_out import read_held_out
from cluster.judge import PART, SEED, Judge, check_judge, labelled_domains, prepare_judge
from cluster.run_folder import RunFolder
from data_shards.build import build
from data_shards.loader import Loader
from gmvae_drit import metrics
from gmvae_drit.build import build_model, build_translator
from gmvae_drit.metrics.efficientnet import EfficientNetLite0

from .test_evaluate import DOMAINS, MODEL, sides

CPU = torch.device("cpu")
FEATURES = ("efficientnet-lite0", "classifier", "pixels")
TESTS = PART + 4  # more than one part of each direction
RUN_SEED = 3
SMALL = {"width": 4, "max_width": 8, "downsamplings": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Labelled images: the label is the side that is bright."""
    folder = tmp_path_factory.mktemp("judge") / "data"
    build(sides(True, train=60, test=TESTS), folder)
    return str(folder)


@pytest.fixture(scope="module")
def judge(data):
    """Of the labelled images, by its features, made once."""
    return functools.cache(lambda features: prepare_judge(experiment(data, features), DOMAINS, 0, 1, CPU))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "unlabelled"
    build(sides(False, train=8, test=4), folder)
    return str(folder)


def experiment(uri, features="pixels", storage="runs", **train):
    return Experiment.model_validate(
        {
            "run": {"name": "judged", "seed": RUN_SEED, "storage": str(storage)},
            "data": {"uri": str(uri), "global_batch": 4},
            "model": {**MODEL, "discriminator": SMALL, "content_discriminator": None},
            "train": {
                "steps": 2,
                "precision": "fp32",
                "log_every": 1,
                "evaluate_every": 1,
                "checkpoint_every": 2,
                "preview_every": 0,
                "judge": {"features": features},
                **train,
            },
        }
    )


def translator():
    torch.manual_seed(0)
    return build_translator(experiment("none").model, DOMAINS).eval()


def pictures(translator, domains, source, target, number):
    """Two translations of each image of a direction whose first part has this number."""
    images, K = domains[source].test.unit(), translator.prior.components
    firsts, seconds = [], []
    for part, start in enumerate(range(0, len(images), PART)):
        image = images[start : start + PART]
        to = torch.full((len(image),), target)
        torch.manual_seed(SEED + number + part)
        for made, turn in ((firsts, 1), (seconds, K)):
            y = torch.tensor([(start + i) // turn % K for i in range(len(image))])
            made.append(translator.translate(image, translator.prior.sample(to, y), to))
    return torch.cat(firsts), torch.cat(seconds)


@pytest.mark.parametrize("features", FEATURES)
def test_figures_are_means_over_directions_of_what_the_metrics_give(judge, features):
    net, domains = translator(), judge(features)._domains
    wanted = {"kid": [], "diversity": [], "label_kept": []}
    lite0 = EfficientNetLite0(128)
    with torch.inference_mode():
        for source, target, number in ((0, 1, 0), (1, 0, 2)):
            first, second = pictures(net, domains, source, target, number)
            classifier, real = domains[target].classifier, domains[target].test.unit()
            see = {
                "efficientnet-lite0": lite0,
                "classifier": metrics.ClassifierFeatures("", classifier),
                "pixels": metrics.PixelFeatures(),
            }[features]
            wanted["kid"].append(metrics.kernel_distance(see(real), see(first)).value)
            far = (first - second).abs().mean()
            if features == "efficientnet-lite0":
                far = metrics.perceptual_distance(lite0, first, second).mean()
            wanted["diversity"].append(float(far))
            label = domains[source].test.labels["label"]
            wanted["label_kept"].append(metrics.accuracy(classifier, first, label))
    assert judge(features).measure(net) == {
        name: pytest.approx(sum(v) / 2, rel=1e-4) for name, v in wanted.items()
    }


def test_every_look_sees_the_same_draws_whatever_happened_between(data, judge):
    net = translator()
    before = judge("pixels").measure(net)
    torch.manual_seed(99)
    assert judge("pixels").measure(net) == before
    assert prepare_judge(experiment(data), DOMAINS, 0, 1, CPU).measure(net) == before, "resumed"


def test_half_precision_does_not_reach_the_features(judge):
    """Real images were looked at in fp32, and rounding must not count as a difference."""
    seen, domain = [], judge("classifier")._domains[0]
    watched = replace(domain, features=lambda image: seen.append(domain.features(image)) or seen[-1])
    with torch.autocast("cpu", torch.bfloat16):
        Judge([watched, watched], metrics.PixelDistance(), SEED, 0, 1, CPU).measure(translator())
    assert {rows.dtype for rows in seen} == {torch.float32}


def _measure_on_a_rank(rank, world_size, data, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{out}/rendezvous", rank=rank, world_size=world_size)
    judge = prepare_judge(experiment(data, "classifier"), DOMAINS, rank, world_size, CPU)
    torch.save(judge.measure(translator()), f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_say_what_one_says(data, judge, tmp_path, world_size):
    """With classifiers that two of them trained, and four parts to share."""
    mp.spawn(_measure_on_a_rank, (world_size, data, str(tmp_path)), nprocs=world_size)
    together = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world_size)]
    assert together == [together[0]] * world_size
    assert together[0] == pytest.approx(judge("classifier").measure(translator()), rel=1e-4)


def test_fewer_images_are_the_first_ones(data):
    few = prepare_judge(experiment(data, judge={"features": "pixels", "images": 5}), DOMAINS, 0, 1, CPU)
    assert [len(d.test) for d in few._domains] == [len(d.real) for d in few._domains] == [5, 5]


def test_a_run_without_judge_has_none(data):
    assert prepare_judge(experiment(data, judge=None), DOMAINS, 0, 1, CPU) is None
    check_judge(experiment("no data at all", judge=None), DOMAINS)


def test_without_labels_nothing_is_said_of_them(unlabelled):
    judged = prepare_judge(experiment(unlabelled), DOMAINS, 0, 1, CPU).measure(translator())
    assert list(judged) == ["kid", "diversity"]
    assert labelled_domains(experiment(unlabelled).data, DOMAINS) == []


def test_the_engine_writes_what_the_experiment_promises_and_keeps_the_best(data, tmp_path):
    settings = experiment(
        data, storage=tmp_path, best_metric="label_kept", best_is="highest", checkpoint_every=1
    )
    check_judge(settings, DOMAINS)
    RunFolder(str(tmp_path), "judged").create()
    torch.manual_seed(0)
    loader, watcher = Loader(settings.data, seed=RUN_SEED), Watching()
    try:
        engine = Engine(
            settings,
            build_model(settings.model, DOMAINS),
            loader,
            Place(0, 1, CPU),
            watcher,
            read_held_out(settings.data, settings.train, DOMAINS, 0, 1),
            judge=prepare_judge(settings, DOMAINS, 0, 1, CPU),
        )
        assert engine.run()
    finally:
        loader.close()
    last = watcher.rows[-1]
    promised = held_out_metrics(settings, labelled=True)
    assert [key for key in last if key.startswith("held_out/")] == [f"held_out/{name}" for name in promised]
    judged = engine.judge.measure(engine.model.exported())
    assert {name: last[f"held_out/{name}"] for name in judged} == pytest.approx(judged, rel=1e-4)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (
            {"judge": {"features": "classifier"}},
            "train.judge.features = classifier: needs a whole number `label` with every image, and day, night has "
            "none; use efficientnet-lite0 or pixels",
        ),
        (
            {"best_metric": "label_kept", "best_is": "highest"},
            "train.best_metric = label_kept: measured only where the images of two domains carry a `label`",
        ),
    ],
)
def test_data_without_labels_are_refused_where_labels_are_needed(unlabelled, train, told):
    with pytest.raises(RunError) as caught:
        check_judge(experiment(unlabelled, **train), DOMAINS)
    assert str(caught.value) == told


def test_a_worker_refuses_data_that_have_labels_only_here_and_there(unlabelled):
    with pytest.raises(RunError, match=r"features = classifier: needs .* and day has none; use "):
        prepare_judge(experiment(unlabelled, "classifier"), DOMAINS, 0, 1, CPU)


def test_data_without_a_test_split_are_refused(tmp_path):
    build((image for image in sides(True, train=4) if image.split == "train"), tmp_path / "data")
    with pytest.raises(RunError) as caught:
        check_judge(experiment(tmp_path / "data"), DOMAINS)
    assert str(caught.value) == "train.judge translates test images, and there is no test split in day, night"


def test_two_test_images_are_too_few(tmp_path):
    build(sides(False, train=4, test=2), tmp_path / "data")
    with pytest.raises(RunError, match=r"KID needs 3 test images, and there are fewer in day, night"):
        prepare_judge(experiment(tmp_path / "data"), DOMAINS, 0, 1, CPU)
