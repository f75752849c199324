"""The object store and the database of development clusters, started from the very manifests."""

import json
import subprocess

import pytest

from ..kustomize import BUCKET, build, program, the
from .conftest import PASSWORD, SECRETS, postgres_programs

COMPONENTS = ("dev-s3", "dev-postgres")
CLIENT = {
    "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return build(tmp_path_factory.mktemp("overlay"), *COMPONENTS)


S3 = {"AWS_ENDPOINT_URL_S3": "http://dev-s3:8333", "AWS_REGION": "us-east-1"}


def client(code, **more):
    """A container that runs a program in the project's image; it finds S3 as the pods of Ray do."""
    return {
        "name": "client",
        "image": "gmvae-drit:0",
        "command": ["python", "-c", code],
        "envFrom": [{"secretRef": {"name": "dev-s3"}}],
        "env": [{"name": name, "value": value} for name, value in S3.items()],
        "securityContext": {"readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        **more,
    }


def start(node, objects, name):
    """The server of a StatefulSet on this node."""
    spec = the(objects, "StatefulSet", name)["spec"]
    pod, claims = (
        spec["template"]["spec"],
        [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]],
    )
    node.init(pod, name, claims)
    (container,) = pod["containers"]
    return node.start(pod, container, name, claims)


def run(node, code, **more):
    code, said = node.start(CLIENT, client(code, **more), "client").wait(120)
    assert code == 0, said
    return said


UP = """
import sys, time, urllib.request
from boto3 import client
from botocore.exceptions import BotoCoreError, ClientError
told = None
for _ in range(200):
    try:
        urllib.request.urlopen("http://dev-s3:8333/healthz", timeout=5)
        client("s3").head_bucket(Bucket=sys.argv[1])
        break
    except (OSError, BotoCoreError, ClientError) as error:
        told = error
        time.sleep(0.2)
else:
    raise told
"""
LOADED = f"""
from data_shards.build import BuildOptions, SourceImage, build
import numpy
from PIL import Image
def images():
    random = numpy.random.default_rng(0)
    for domain in "AB":
        for index in range(24):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
            yield SourceImage(domain, "train", str(index), Image.fromarray(pixels))
build(images(), "s3://{BUCKET}/noise", BuildOptions(shard_samples=8))
"""
SERVED = f"""
import hashlib, itertools
from data_shards.config import DataSettings
from data_shards.loader import Loader
loader = Loader(DataSettings(uri="s3://{BUCKET}/noise", global_batch=8), seed=0)
for batch in itertools.islice(loader.batches(), 6):
    print(hashlib.sha256(batch["image"].numpy().tobytes()).hexdigest())
loader.close()
"""


@pytest.mark.slow
def test_the_object_store_serves_the_loader_and_keeps_what_it_has(node, objects):
    here = node(objects)
    server = start(here, objects, "dev-s3")
    run(here, UP, args=[BUCKET])
    run(here, LOADED)
    first = run(here, SERVED)
    assert len(set(first.split())) == 6
    server.stop()
    assert server.process.returncode == 0, "SIGTERM is an orderly end"
    start(here, objects, "dev-s3")
    run(here, UP, args=[BUCKET])
    assert run(here, SERVED) == first


ASKED = """
import json, os, time, psycopg
for _ in range(200):
    try:
        connection = psycopg.connect(os.environ["URL"], password=os.environ["PGPASSWORD"], autocommit=True)
        break
    except psycopg.OperationalError as error:
        told = str(error)
        if "authentication" in told or "pg_hba" in told:
            print(json.dumps({"refused": told}))
            raise SystemExit
        time.sleep(0.2)
else:
    raise SystemExit(told)
connection.execute("CREATE TABLE IF NOT EXISTS visits (number INT)")
connection.execute("INSERT INTO visits SELECT count(*) FROM visits")
rights = connection.execute("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user")
print(json.dumps({"visits": connection.execute("SELECT count(*) FROM visits").fetchone()[0],
                  "rights": rights.fetchone()}))
"""


def ask(node, url="postgresql://tuner@dev-postgres/sweeps", password=None):
    """What a client hears from the database."""
    known = {"valueFrom": {"secretKeyRef": {"name": "sweep-database", "key": "password"}}}
    given = known if password is None else {"value": password}
    variables = [{"name": "URL", "value": url}, {"name": "PGPASSWORD", **given}]
    return json.loads(run(node, ASKED, env=variables))


@pytest.mark.slow
@pytest.mark.skipif(
    postgres_programs() is None, reason="PostgreSQL is not installed: apt-get install postgresql"
)
def test_the_database_lets_in_who_has_the_password_and_keeps_what_it_has(node, objects):
    here = node(objects)
    server = start(here, objects, "dev-postgres")
    assert ask(here) == {"visits": 1, "rights": [False, False, False]}
    assert "refused" in ask(here, password="another")
    assert "refused" in ask(here, url="postgresql://postgres@dev-postgres/postgres")
    server.stop()
    assert server.process.returncode == 0, "SIGTERM is an orderly end"
    server = start(here, objects, "dev-postgres")
    assert ask(here)["visits"] == 2
    assert PASSWORD not in server.said()


def test_no_key_is_in_what_is_built(objects):
    text = json.dumps(objects)
    assert not [each for each in objects if each["kind"] == "Secret"]
    assert not [
        word for secret in SECRETS.values() for word in secret.values() if word in text and word != "dev"
    ]


def test_only_clients_reach_them(objects):
    for name, port in (("dev-s3", 8333), ("dev-postgres", 5432)):
        service = the(objects, "Service", name)["spec"]
        assert service["type"] == "ClusterIP"
        assert [each["port"] for each in service["ports"]] == [port]
        wall = next(
            each["spec"]
            for each in objects
            if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == name
        )
        labels = the(objects, "StatefulSet", name)["spec"]["template"]["metadata"]["labels"]
        assert wall["podSelector"]["matchLabels"].items() <= labels.items()
        assert wall["policyTypes"] == ["Ingress", "Egress"]
        assert wall.get("egress", []) == []
        (door,) = wall["ingress"]
        assert door["ports"] == [{"protocol": "TCP", "port": port}]
        assert all("podSelector" in source for source in door["from"])


# Each is explained in the manifests.
KNOWN = {"CKV_K8S_15", "CKV_K8S_43", ("dev-s3", "CKV_K8S_35"), ("dev-postgres", "CKV_K8S_40")}


def test_checkov_finds_nothing_that_is_not_explained(objects, tmp_path):
    checkov = program("checkov")
    if checkov is None:
        pytest.skip("checkov is not installed: pip install checkov, in an environment of its own")
    (tmp_path / "objects.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    words = ["--framework", "kubernetes", "--skip-download", "--output", "json", "--soft-fail"]
    done = subprocess.run(
        [checkov, "-f", "objects.json", *words], cwd=tmp_path, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert found["summary"]["passed"] > 100
    failed = [
        (each["resource"].split(".")[2], each["check_id"]) for each in found["results"]["failed_checks"]
    ]
    assert not [each for each in failed if each[1] not in KNOWN and each not in KNOWN]
