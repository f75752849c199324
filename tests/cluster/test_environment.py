"""What is said of the environment is true, and names nobody."""

import getpass
import json
import platform
import socket
import subprocess

import torch

from cluster import environment


def test_it_describes_this_process_in_words():
    facts = environment.describe()
    assert all(isinstance(name, str) and isinstance(value, str) and value for name, value in facts.items())
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == torch.__version__
    assert facts["CPU"].endswith(f"{environment._cores()} cores")
    assert facts["bf16"] in ("yes", "no")
    assert ("GPU" in facts) == torch.cuda.is_available() == ("CUDA" in facts)
    text = json.dumps({name: value for name, value in facts.items() if name != "platform"}).split()
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text


def test_the_commit_is_that_of_the_checkout_and_tells_of_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "REPOSITORY", tmp_path)
    assert environment._commit() is None

    def git(*words):
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        done = subprocess.run(
            ["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "-m", "first")
    assert environment._commit() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "file").write_text("2")
    assert environment._commit() == git("rev-parse", "HEAD")[:12] + " with changes"


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(environment, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert environment._commit() is None


def test_equal_gpus_are_counted():
    assert environment._gpus(["A", "A", "B"]) == "2 x A, 1 x B"
    assert environment._gpus([]) is None
