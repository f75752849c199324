"""The node of these tests withholds from a container what a cluster would withhold."""

import os

import pytest

from . import pods

POD = {
    "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000},
    "volumes": [
        {"name": "tmp", "emptyDir": {}},
        {"name": "files", "configMap": {"name": "files"}},
        {"name": "keys", "secret": {"secretName": "dev-s3", "defaultMode": 0o440}},
    ],
}
CONTAINER = {
    "name": "probe",
    "image": "gmvae-drit:0",
    "command": ["/bin/bash", "-c"],
    "securityContext": {"readOnlyRootFilesystem": True},
    "env": [{"name": "ONE", "value": "1"}, {"name": "TWO", "value": "$(ONE)+$(ONE) $(NONE)"}],
    "volumeMounts": [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "files", "mountPath": "/etc/gmvae/files", "readOnly": True},
        {"name": "keys", "mountPath": "/keys", "readOnly": True},
    ],
}
OBJECTS = [
    {"kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"a.yaml": "a: 1"}},
    {"kind": "Service", "metadata": {"name": "somewhere"}},
]


@pytest.fixture
def told(node):
    """What a container says that runs this script."""
    here = node(OBJECTS)

    def run(script):
        _, said = here.start(POD, {**CONTAINER, "args": [script]}, "probe").wait(30)
        return said.strip()

    return run


def test_user_groups_and_rights_are_those_of_the_manifest(told):
    assert told("id -u; id -g; id -G").split() == ["1000", "1000", "1000", "2000"]
    status = dict(
        line.split(":\t") for line in told("grep -E '^(Cap|NoNewPrivs)' /proc/self/status").splitlines()
    )
    assert {int(value, 16) for name, value in status.items() if name.startswith("Cap")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_only_volumes_can_be_written_and_only_those_that_may(told):
    for path in ("/x", "/etc/x", "/usr/x", "/etc/gmvae/files/x", f"{pods.REPOSITORY}/x"):
        assert "No such file" not in told(f"touch {path}")
        assert not os.path.exists(path)
    assert told("touch /x /usr/x /etc/gmvae/files/x 2>&1 | grep -c 'Read-only'") == "3"
    assert told("touch /tmp/x && ls /tmp") == "x"
    assert told("ls /tmp") == "x", "a volume is that of the pod"


def test_files_and_words_arrive(told):
    assert told('cat /etc/gmvae/files/a.yaml; echo; echo "$TWO"').splitlines() == ["a: 1", "1+1 $(NONE)"]
    assert told("stat --format '%a %g' /keys/AWS_ACCESS_KEY_ID; cat /keys/AWS_ACCESS_KEY_ID").split() == [
        "440",
        "2000",
        "dev",
    ]
    assert told("env | cut -d= -f1 | grep -E '^(AWS|GMVAE|PYTEST)'") == "", (
        "nothing of this machine's environment"
    )


def test_the_network_is_the_nodes_own(told):
    assert told("getent hosts somewhere | cut -d' ' -f1") == "127.0.0.1"
    assert told("grep -c : /proc/net/dev") == "1", "loopback"


def test_what_a_container_has_started_ends_with_it(node):
    here = node(OBJECTS)
    container = here.start(POD, {**CONTAINER, "args": ["sleep 4321 & echo up; sleep 4321"]}, "probe")
    pods.wait_for(container.said, container)
    (first,) = pods.children(container.process.pid)
    started = [first, *pods.children(first)]
    container.stop(seconds=1)
    assert not [pid for pid in started if os.path.exists(f"/proc/{pid}")]
