"""What is printed to start a cluster can be parsed by whom it is for, and asks for what the run needs."""

import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from datapipe.errors import ConfigError
from datapipe.preprocess import Scheduler, clusters
from datapipe.preprocess.deploying import WAYS, Needs, deployment, needs_of
from datapipe.preprocess.run_cost import RunCost

NEEDS = Needs(workers=64, worker=1536, scheduler=768, driver=512, scratch=2048, minutes=150)
RUN = ("in/*.gz", "'my out'", "--recipe", "web")


def commands(text):
    """Each command line of a text, split as a shell does."""
    joined = text.replace("\\\n", " ")
    lines = [re.sub(r"^# +", "", line).removesuffix("&").strip() for line in joined.splitlines()]
    return [shlex.split(line) for line in lines if re.match(r"(srun .*)?(dask|datapipe|openssl|kubectl) ", line)]


@pytest.mark.parametrize("way", WAYS)
def test_the_options_are_those_of_the_commands(way):
    """Dask's and ours know every option that is printed."""
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker
    from typer.main import get_command

    from datapipe.cli.main import app

    known = {"scheduler": scheduler, "worker": worker, "preprocess": get_command(app).commands["preprocess"]}
    called = [(words, program) for words in commands(deployment(way, NEEDS, RUN)) for program in ("dask", "datapipe")]
    found = [words[words.index(program) + 1 :] for words, program in called if program in words]
    if way == "kubernetes":
        spec = yaml.safe_load(deployment(way, NEEDS, RUN))["spec"]
        found += [spec[role]["spec"]["containers"][0]["args"][1:] for role in ("worker", "scheduler")]
    assert {words[0] for words in found} == set(known)
    run = [*next(rest for name, *rest in found if name == "preprocess")]
    assert run[-4:] == ["in/*.gz", "my out", "--recipe", "web"]
    for name, *rest in found:
        options = {option for each in known[name].params for option in (*each.opts, *each.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= options, name


def test_the_manifest():
    """A DaskCluster with the workers, memory and scratch that were asked for; key files that only their owner reads."""
    made = yaml.safe_load(deployment("kubernetes", NEEDS, RUN))
    assert (made["apiVersion"], made["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    worker, scheduler = (made["spec"][role]["spec"] for role in ("worker", "scheduler"))
    assert made["spec"]["worker"]["replicas"] == 64
    limits = {"cpu": "1", "memory": "1536Mi", "ephemeral-storage": "2048Mi"}
    assert worker["containers"][0]["resources"] == {"requests": limits, "limits": limits}
    assert scheduler["containers"][0]["resources"]["limits"]["memory"] == "768Mi"
    assert worker["volumes"][0]["secret"]["defaultMode"] == 0o400
    assert made["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == made["metadata"]["name"]


def test_the_script():
    """A shell takes it; the memory of scheduler and driver is asked for as well."""
    text = deployment("slurm", NEEDS, RUN)
    subprocess.run(["bash", "-n"], input=text.encode(), check=True)
    assert "#SBATCH --ntasks=65\n" in text
    assert "# 1 of the tasks is the memory of scheduler" in text
    assert "#SBATCH --time=02:30:00\n" in text


def test_the_certificate(tmp_path):
    """The one command makes files that both sides can present, and trust."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    (command,) = [words for words in commands(deployment("ssh", NEEDS, RUN)) if words[0] == "openssl"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    certificate, key = str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")
    scheduler = Scheduler("tls://10.0.0.1:8786", tls_ca=certificate, tls_cert=certificate, tls_key=key)
    assert clusters._security(scheduler, scheduler.checked()).get_connection_args("client")["ssl_context"]


def test_no_worker_has_less_than_it_ends_itself_at():
    """Memory is what is forecast, or what the run allows a worker, whichever is more, and some to spare."""
    cost = RunCost(
        workers=3, documents=1, input_bytes=1, splits=1, stages=(), worker_memory=300 << 20, worker_scratch=1,
        scheduler_memory=150 << 20, driver_memory=1 << 30, sample_bytes=1, sample_seconds=1.0, assumed=(),
    )  # fmt: skip
    assert needs_of(cost, 1 << 30).worker == 1280
    assert needs_of(cost, 0).worker == 512
    assert needs_of(cost, 0).minutes == 30


def test_another_way():
    with pytest.raises(ConfigError, match="--deploy nomad"):
        deployment("nomad", NEEDS, RUN)
