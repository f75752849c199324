"""Studies in PostgreSQL: several sweeps in one database, faults before anything starts, and a server that restarts."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from typer.testing import CliRunner

from tune.__main__ import app
from tune.storage import study_storage

from .command import SweepCommand
from .curves import curve, search, toy_sweep, trials_of
from .postgres import PASSWORD, PostgresServer, find_programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_programs() is None, reason="needs PostgreSQL: apt install postgresql"),
]


@pytest.fixture(scope="module")
def server():
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(server, request, monkeypatch):
    """(URL of an empty database)."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    name = "d" + str(abs(hash(request.node.name)))
    server.create(name)
    return server.url(name)


def toy(url, name="toy"):
    return toy_sweep(sweep={"name": name, "seed": 5, "study": url})


def refusal(*words):
    result = CliRunner().invoke(app, ["run", *map(str, words)])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.output.splitlines()
    return line


def test_a_sweep_is_the_same_as_in_a_file(database):
    expected = trials_of(search(toy_sweep(), optuna.storages.InMemoryStorage()))
    assert trials_of(search(toy(database), study_storage(toy(database)))) == expected


def test_drivers_that_begin_at_once_make_the_tables_once(database):
    with ThreadPoolExecutor(6) as pool:
        storages = list(pool.map(lambda _: study_storage(toy(database)), range(6)))
    assert all(storage.get_all_studies() == [] for storage in storages)


def test_two_drivers_in_one_database_do_not_mix(database, write_sweep, tmp_path):
    commands = [
        SweepCommand(
            write_sweep(
                f"{name}.yaml",
                **{
                    "sweep.name": name,
                    "sweep.study": database,
                    "sweep.seed": seed,
                    "budget": {"trials": 3, "steps": 4},
                    "fixed": {"scaling.workers": 1, "train.preview_every": 0},
                },
            )
        )
        for seed, name in enumerate(("left", "right"))
    ]
    try:
        ends = [command.wait(300) for command in commands]
    finally:
        for command in commands:
            command.kill()
    for code, lines in ends:
        assert code == 0, "\n".join(lines)
    storage = study_storage(toy(database))
    studies = [optuna.load_study(study_name=name, storage=storage) for name in ("left", "right")]
    for study in studies:
        assert [trial.number for trial in study.trials] == [0, 1, 2]
        assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    assert studies[0].trials[0].values == studies[1].trials[0].values, "the base is the base"
    assert studies[0].trials[1].params != studies[1].trials[1].params, "seeds differ"


def test_faults_of_the_connection_are_one_line_each(server, database, write_sweep, monkeypatch):
    missing = server.url("nothing")
    line = refusal(write_sweep(**{"sweep.study": missing}))
    assert line.startswith(f"error: sweep.study = {missing}: ")
    assert 'database "nothing" does not exist' in line
    monkeypatch.setenv("PGPASSWORD", "wrong-one")
    line = refusal(write_sweep(**{"sweep.study": database}))
    assert line.startswith(f"error: sweep.study = {database}: ")
    assert "password authentication failed" in line
    assert "wrong-one" not in line
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    assert "password" in refusal(write_sweep(**{"sweep.study": database}))


def test_a_server_that_restarts_in_the_middle_is_waited_for(server, database):
    """Down for six seconds, while the driver wants to write; what it was writing is written once."""
    expected = trials_of(search(toy_sweep(), optuna.storages.InMemoryStorage()))
    restarted = []

    def restart():
        time.sleep(6)
        server.start()

    def figures(values, step):
        if values == expected[4][2] and step == 9:
            server.stop()
            restarted.append(threading.Thread(target=restart))
            restarted[0].start()
        return curve(values, step)

    study = search(toy(database), study_storage(toy(database)), figures=figures)
    restarted[0].join()
    assert trials_of(study) == expected
