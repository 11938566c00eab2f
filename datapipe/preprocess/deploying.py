"""How to start a cluster that fits a run: commands for SSH, a Slurm script, a Kubernetes manifest.

What enters: what the run will cost (`cost_model`), and the words of its command. What leaves: text to save, edit and
run, with the memory, cores and scratch to ask for. Invariant: everything speaks TLS, workers have one thread, and no
process is given less memory than what it ends itself at (`limits`), so that the kernel never chooses a victim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.preprocess.run_cost import RunCost

WAYS: Final = ("ssh", "slurm", "kubernetes")
SPARE: Final = 1.25
"""Times what is forecast: the forecast of memory was up to a tenth too low (`benchmarks/cost_model.py`)."""
_STEP: Final = 256
_CERTIFICATE: Final = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=datapipe"
    " -keyout tls.key -out tls.crt"
)
_TLS: Final = "--tls-ca-file tls.crt --tls-cert tls.crt --tls-key tls.key"
_OURS: Final = "--tls-ca tls.crt --tls-cert tls.crt --tls-key tls.key"


@final
@dataclass(frozen=True, kw_only=True)
class Needs:
    """What to ask for. Memory and scratch in MiB.

    Attributes:
        workers: of one core each. worker, scheduler, driver: memory. scratch: disk of a worker.
        minutes: for the run, twice what is forecast.
    """

    workers: int
    worker: int
    scheduler: int
    driver: int
    scratch: int
    minutes: int


def needs_of(cost: RunCost, worker_memory: int) -> Needs:
    """What a run needs of a cluster.

    Args:
        cost: of the run. worker_memory: bytes at which a worker ends itself; 0: never.
    """
    return Needs(
        workers=cost.workers,
        worker=_mebibytes(max(cost.worker_memory, worker_memory)),
        scheduler=_mebibytes(cost.scheduler_memory),
        driver=_mebibytes(cost.driver_memory),
        scratch=_mebibytes(4 * cost.worker_scratch),
        minutes=max(30, round(2 * cost.seconds / 60)),
    )


def _mebibytes(count: float) -> int:
    return -(-round(SPARE * count) // (_STEP << 20)) * _STEP


def deployment(way: str, needs: Needs, words: Sequence[str]) -> str:
    """The text for one way.

    Args:
        way: one of `WAYS`. needs: of the run.
        words: what follows `datapipe preprocess`: inputs, output and options but the scheduler's, quoted for bash.

    Raises:
        ConfigError: there is no such way.
    """
    if way not in WAYS:
        raise ConfigError(f"--deploy {way}", expected=f"one of {', '.join(WAYS)}")
    return {"ssh": _ssh, "slurm": _slurm, "kubernetes": _kubernetes}[way](needs, " ".join(words))


def _ssh(needs: Needs, run: str) -> str:
    return f"""\
# One certificate for all processes of this cluster: whoever has the key runs code on it. Copy both to every machine.
{_CERTIFICATE}
# On the head ({needs.scheduler} MiB for the scheduler; {needs.driver} MiB for the run, if it is started there):
dask scheduler --protocol tls --port 8786 --no-dashboard {_TLS}
# On each machine, with the same packages: {needs.workers} processes in all, of {needs.worker} MiB of memory and
# {needs.scratch} MiB of /tmp each:
dask worker tls://HEAD:8786 --nworkers -1 --nthreads 1 --memory-limit {needs.worker}MiB --local-directory /tmp \\
  --no-dashboard {_TLS}
# The run, from anywhere that reaches the head. Input and output: an object store, or a disk mounted everywhere.
datapipe preprocess --scheduler tls://HEAD:8786 {_OURS} {run}
"""


def _slurm(needs: Needs, run: str) -> str:
    first = -(-(needs.scheduler + needs.driver) // needs.worker)
    are = "is" if first == 1 else "are"
    hours, minutes = divmod(needs.minutes, 60)
    return f"""\
#!/bin/bash
#SBATCH --job-name=datapipe
#SBATCH --ntasks={needs.workers + first}
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu={needs.worker}M
#SBATCH --time={hours:02}:{minutes:02}:00
# {first} of the tasks {are} the memory of scheduler and driver, which run beside the workers of the first node.
# Submit from a folder that all nodes share. Stopped by its time limit, the same job goes on where it was.
set -eu
umask 077
[ -e tls.crt ] || {_CERTIFICATE}
rm -f cluster.json
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
dask scheduler --protocol tls --port 0 --no-dashboard --scheduler-file cluster.json {_TLS} &
srun --ntasks={needs.workers} dask worker --scheduler-file cluster.json --nthreads 1 --memory-limit {needs.worker}MiB \\
  --local-directory "${{SLURM_TMPDIR:-/tmp}}" --no-dashboard {_TLS} &
while [ ! -s cluster.json ]; do sleep 1; done
datapipe preprocess --scheduler cluster.json {_OURS} {run}
"""


def _kubernetes(needs: Needs, run: str) -> str:
    def pod(name: str, arguments: str, memory: int, scratch: int, indent: int) -> str:
        words = ", ".join(f'"{word}"' for word in arguments.split())
        limits = f'{{cpu: "1", memory: {memory}Mi, ephemeral-storage: {scratch}Mi}}'
        lines = f"""\
containers:
  - name: {name}
    image: IMAGE
    workingDir: /tls
    args: [{words}]
    resources: {{requests: {limits}, limits: {limits}}}
    volumeMounts: [{{name: tls, mountPath: /tls, readOnly: true}}]
volumes: [{{name: tls, secret: {{secretName: datapipe-tls, defaultMode: 0400}}}}]"""
        return "\n".join(" " * indent + line for line in lines.splitlines())

    worker = (
        f"dask worker tls://datapipe-scheduler:8786 --nthreads 1 --memory-limit {needs.worker}MiB"
        f" --local-directory /tmp --no-dashboard --name $(DASK_WORKER_NAME) {_TLS}"
    )
    scheduler = f"dask scheduler --protocol tls --port 8786 --no-dashboard {_TLS}"
    return f"""\
# For the Dask operator (helm install --repo https://helm.dask.org --generate-name dask-kubernetes-operator). IMAGE has
# datapipe-toolkit[preprocess,s3], the same version as where the run is started. Before it:
#   {_CERTIFICATE}
#   kubectl create secret generic datapipe-tls --from-file=tls.crt --from-file=tls.key
# After it, from anywhere with kubectl ({needs.driver} MiB); input and output in an object store that both can reach:
#   kubectl port-forward service/datapipe-scheduler 8786 &
#   datapipe preprocess --scheduler tls://127.0.0.1:8786 {_OURS} {run}
apiVersion: kubernetes.dask.org/v1
kind: DaskCluster
metadata:
  name: datapipe
spec:
  worker:
    replicas: {needs.workers}
    spec:
{pod("worker", worker, needs.worker, needs.scratch, 6)}
  scheduler:
    spec:
{pod("scheduler", scheduler, needs.scheduler, _STEP, 6)}
    service:
      type: ClusterIP
      selector: {{dask.org/cluster-name: datapipe, dask.org/component: scheduler}}
      ports: [{{name: tcp-comm, protocol: TCP, port: 8786, targetPort: 8786}}]
"""
