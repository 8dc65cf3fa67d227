"""Jobs: making them, and reading how they are.

Owns: the common Job as one call; what of a Job's conditions says that it has ended.
Does not own: defaults and validation, which are the servers'.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from stint import errors
from stint.v1 import meta_pb2
from stint.v1.job_pb2 import Job, JobCondition
from stint.v1.template_pb2 import Container, EnvVar
from stint.watching import ChangeKind, Relisted, WatchEvent

_NAME_PREFIX_MAX = 50


class JobOptions(TypedDict, total=False):
    """The options of `make_job`, for calls that pass them on."""

    name: str | None
    namespace: str
    image: str | None
    completions: int | None
    parallelism: int | None
    indexed: bool
    env: Mapping[str, str] | None
    cpu: str | None
    memory: str | None
    retries: int | None
    backoff: float | None
    deadline: int | None
    ttl: int | None
    restart_policy: str
    grace: int | None
    runtime: str | None
    priority: int | None
    node_selector: Mapping[str, str] | None
    labels: Mapping[str, str] | None
    annotations: Mapping[str, str] | None
    suspend: bool


def make_job(
    command: Sequence[str],
    *,
    name: str | None = None,
    namespace: str = "",
    image: str | None = None,
    completions: int | None = None,
    parallelism: int | None = None,
    indexed: bool = False,
    env: Mapping[str, str] | None = None,
    cpu: str | None = None,
    memory: str | None = None,
    retries: int | None = None,
    backoff: float | None = None,
    deadline: int | None = None,
    ttl: int | None = None,
    restart_policy: str = "Never",
    grace: int | None = None,
    runtime: str | None = None,
    priority: int | None = None,
    node_selector: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    suspend: bool = False,
) -> Job:
    """Make a Job of one container. It is a message of `stint.v1` and can be changed before it is submitted.

    command: program and arguments; no shell.
    name: without it the servers make one that begins with the program's.
    image: what containers are made from; without it the Job runs as a process of the node.
    completions, parallelism: how often it must succeed, and how many run at once; the servers' default is 1.
    indexed: each Pod gets an index from 0, in `JOB_COMPLETION_INDEX`.
    cpu, memory: what a node must have free and what may be used, such as `500m` and `1Gi`.
    retries: failures that are forgiven; the servers' default is 6.
    backoff: seconds after the first failure, doubled with each further one; the servers' default is 10.
    deadline: seconds after its start at which an unfinished Job fails.
    ttl: seconds after its end at which the Job is deleted.
    restart_policy: `Never`, or `OnFailure` to start the container again in its Pod.
    grace: seconds from SIGTERM to SIGKILL; the servers' default is 30.
    runtime: `process`, `cri` or `oci`; without it the cluster's default, `process` if there is no image.
    env: environment of the container.
    priority: which Pods get room first: those of the greatest number; the servers' default is 0.
    node_selector: labels that a node must have.
    labels: of the Job and of its Pods. annotations: of the Job alone.
    suspend: no Pod runs until the Job is changed.
    """
    if isinstance(command, str):
        raise TypeError('a command is a sequence of words, such as ["sleep", "1"]: no shell splits it')
    if not command:
        raise ValueError("a command has at least its program")
    if not image:
        runtime = runtime or "process"
    container = Container(name="main", image=image or "", command=list(command))
    for key, value in (env or {}).items():
        container.env.append(EnvVar(name=key, value=value))
    for resource, amount in (("cpu", cpu), ("memory", memory)):
        if amount is not None:
            container.resources.requests[resource] = amount
            container.resources.limits[resource] = amount
    job = Job()
    job.metadata.namespace = namespace
    if name is None:
        job.metadata.generate_name = _prefix_of(command[0])
    else:
        job.metadata.name = name
    job.metadata.labels.update(labels or {})
    job.metadata.annotations.update(annotations or {})
    spec = job.spec
    if completions is not None:
        spec.completions = completions
    if parallelism is not None:
        spec.parallelism = parallelism
    if indexed:
        spec.completion_mode = "Indexed"
        if completions is None:
            spec.completions = 1
    if retries is not None:
        spec.backoff_limit = retries
    if backoff is not None:
        spec.backoff_base.FromNanoseconds(round(backoff * 1e9))
    if deadline is not None:
        spec.active_deadline_seconds = deadline
    if ttl is not None:
        spec.ttl_seconds_after_finished = ttl
    if suspend:
        spec.suspend = True
    spec.template.metadata.labels.update(labels or {})
    pod = spec.template.spec
    pod.containers.append(container)
    pod.restart_policy = restart_policy
    if grace is not None:
        pod.termination_grace_period_seconds = grace
    if runtime is not None:
        pod.runtime_class_name = runtime
    if priority is not None:
        pod.priority = priority
    pod.node_selector.update(node_selector or {})
    return job


def new_request_id() -> str:
    """Make an id that no other submit has."""
    return secrets.token_hex(16)


def condition(job: Job, kind: str) -> JobCondition | None:
    """Return the condition of this type if it holds."""
    for one in job.status.conditions:
        if one.type == kind and one.status == meta_pb2.CONDITION_STATUS_TRUE:
            return one
    return None


def is_complete(job: Job) -> bool:
    """Say whether the Job has succeeded."""
    return condition(job, "Complete") is not None


def is_failed(job: Job) -> bool:
    """Say whether the Job has failed."""
    return condition(job, "Failed") is not None


def is_finished(job: Job) -> bool:
    """Say whether the Job has ended: no Pod of it runs or will."""
    return is_complete(job) or is_failed(job)


def checked(job: Job) -> Job:
    """Return the Job; raise `JobFailedError` if it has failed."""
    failure = condition(job, "Failed")
    if failure is not None:
        raise errors.JobFailedError(job, failure.reason, failure.message)
    return job


class Awaited:
    """Jobs of one namespace whose end is waited for."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.known = {job.metadata.uid: job for job in jobs}
        """By uid, as last seen."""
        self.left = {uid for uid, job in self.known.items() if not is_finished(job)}
        """Uids of those that have not ended."""

    def take(self, event: WatchEvent[Job]) -> None:
        """Take an event of a watch that shows all of them; raise `JobDeletedError` if one of those left is gone."""
        if isinstance(event, Relisted):
            there = {job.metadata.uid: job for job in event.objects}
            gone = next((uid for uid in self.left if uid not in there), None)
            for job in event.objects:
                self._show(job)
        else:
            uid = event.object.metadata.uid
            gone = uid if event.kind is ChangeKind.DELETED and uid in self.left else None
            self._show(event.object)
        if gone is not None:
            metadata = self.known[gone].metadata
            raise errors.JobDeletedError(metadata.namespace, metadata.name)

    def _show(self, job: Job) -> None:
        if job.metadata.uid in self.left:
            self.known[job.metadata.uid] = job
            if is_finished(job):
                self.left.discard(job.metadata.uid)


def request_job(job: Job, namespace: str) -> Job:
    """Return the Job as a request carries it: without status, with a namespace."""
    request = Job(metadata=job.metadata, spec=job.spec)
    if not request.metadata.namespace:
        request.metadata.namespace = namespace
    return request


def _prefix_of(program: str) -> str:
    """Make a prefix for generated names out of a program's path."""
    base = re.sub(r"[^a-z0-9]+", "-", program.rsplit("/", 1)[-1].lower()).strip("-")
    return (base[:_NAME_PREFIX_MAX].rstrip("-") or "job") + "-"
