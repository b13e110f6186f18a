"""One run's problem, prepared: what was yielded, its digests, and where steps are kept."""

from __future__ import annotations

import dataclasses
import pickle
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from accel import arrays, disk, sources, store, workload
from accel.errors import AccelError, UsageError
from accel.guard import guarded
from accel.measure import child, limits, machine
from accel.protocols import Quantized
from accel.using import Using
from accel.values import Feed, Options, Refusal, Request, Split, Target, Workload

T = TypeVar("T")
READ_LIMIT_S = 900.0
MORE = ("numba-cuda", "ml_dtypes", "protobuf")  # where they are installed
EPOCHS, LEAST_EPOCHS = 8, 2  # one epoch cannot tell what another would differ by


@dataclass
class Ledger:
    """Which steps a run asked for, and which it found finished: what makes a resume visible.

    A step's first answer counts: one that was made and then read again in the same run was made."""

    reused: dict[Path, bool] = field(default_factory=dict)  # step folder -> was already there
    failed: int = 0  # a failure is not stored: the next run tries again
    damaged: dict[Path, str] = field(default_factory=dict)  # made again: what was wrong with it
    unkept: dict[str, Any] = field(default_factory=dict)  # key -> what only this run may use again

    def add(self, step: store.Step[Any]) -> None:
        """Note a finished step."""
        self.reused.setdefault(step.folder, step.reused)
        self.tell_damage(step)

    def tell_damage(self, step: store.Step[Any]) -> None:
        """Note a step that was made again because the finished one was not as it was written."""
        if step.damaged:
            self.damaged[step.folder] = step.damaged

    def text(self) -> str:
        """One line: "reused 41 of 41 steps, 0 made"."""
        kept = sum(self.reused.values())
        made = len(self.reused) - kept
        tried = f", {self.failed} tried and failed" if self.failed else ""
        return f"reused {kept} of {len(self.reused)} steps, {made} made{tried}{self._lost()}"

    def _lost(self) -> str:
        if not self.damaged:
            return ""
        folder, why = next(iter(self.damaged.items()))
        more = f" and {len(self.damaged) - 1} more" if len(self.damaged) > 1 else ""
        return (
            f"; made again, since the finished one was damaged: {folder.name} ({why}){more}; what "
            f"stood there lies in {folder.parent / store.QUARANTINE}"
        )


@dataclass(frozen=True)
class Job:
    """What all trials of one run share: the problem, the machine, and where steps are kept."""

    workload: Workload
    target: Target
    requests: tuple[Request, ...]
    calibration_file: Path | None
    digests: Options  # of the source, the weights and the data that the workload yielded
    versions: Mapping[str, str]
    machine_class: str
    work: Path
    seed: int = 0
    epochs: int = EPOCHS  # of a final, at most
    given: Mapping[str, Quantized | Refusal] | None = None  # graphs that another machine made
    ledger: Ledger = field(default_factory=Ledger, compare=False)  # this run's own, only added to
    using: Using = field(default_factory=Using, compare=False)  # the same

    def log(self, name: str) -> Path:
        """Where a child's output goes; its path stands in the child's error."""
        folder = self.work / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"


def step(
    job: Job, verb: str, key: Mapping[str, Any], kind: type[T], make: Callable[[Path], T]
) -> store.Step[T]:
    """One stored step; library versions are part of every key."""
    full = {**key, "versions": job.versions}
    try:
        done = store.run(job.work / "store", verb, full, kind, make, job.using)
    except AccelError:
        job.ledger.failed += 1
        raise
    job.ledger.add(done)
    return done


def prepare(
    source: str,
    target: Target,
    data: str | None,
    work: Path,
    seed: int = 0,
    epochs: int = EPOCHS,
    weights: str | None = None,
    given: Mapping[str, Quantized | Refusal] | None = None,
) -> Job:
    """Load the workload and everything that it yields, and digest it.

    `weights`: the digest of the model's, where they are known already: it is not made then.
    `given`: graphs that another machine made, by naming.graph_key. Raises UsageError for anything
    wrong with the workload or its data."""
    if epochs < LEAST_EPOCHS:
        raise UsageError(f"epochs must be at least {LEAST_EPOCHS}, not {epochs}.")
    problem = workload.load(source, data)
    requests = workload.requests(problem)
    folder, using = work.absolute() / "data", Using()
    with disk.guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = _feeds_file(folder, "calibration", workload.calibration(problem), using)
    digests = {
        "source": problem.digest,
        "example": arrays.digest([workload.example(problem)]),
        "requests": store.digest_json(
            [[r.group, r.weight, arrays.digest([r.inputs])] for r in requests]
        ),
        "calibration": None if file is None else arrays.digest(arrays.stream(file)),
        "search": _samples_digest(problem, "search"),
        "certify": _samples_digest(problem, "certify"),
    }
    job = Job(
        workload=problem,
        target=target,
        requests=requests,
        calibration_file=file,
        digests=digests,
        versions={**machine.versions(), **_libraries(problem)},
        machine_class=machine.machine_class(machine.fingerprint()),
        work=work.absolute(),
        seed=seed,
        epochs=epochs,
        given=given,
        using=using,
    )
    return dataclasses.replace(job, digests={**digests, "weights": weights or _weights(job)})


def _libraries(problem: Workload) -> Mapping[str, str]:
    """The rest of those that a step may depend on: what the workload's own code imports, too."""
    file = Path(sources.parted(problem.source)[0])
    return {**sources.installed(MORE), **(sources.versions(file) if file.suffix == ".py" else {})}


def _samples_digest(problem: Workload, split: Split) -> str | None:
    found = workload.samples(problem, split)
    if found is not None and not found and split == "search":
        raise UsageError(f"{problem.source}: samples('search') yields nothing; 1 is the least.")
    if not found:
        return None
    feeds = [feed for inputs, _ in found for feed in inputs]
    labels = [_plainly(label) for _, label in found]
    groups = workload.clusters(problem, split, len(found))
    ids = None if groups is None else [_plainly(one) for one in groups]
    calls = [
        len(inputs) for inputs, _ in found
    ]  # of each sample: which of the feeds belong together
    return store.digest_json([arrays.digest(feeds), calls, labels, ids])


def _plainly(label: Any) -> Any:
    """A label as JSON data that is the same in every process: an object's address is not."""
    import numpy as np

    if label is None or isinstance(label, (str, bytes, int, float)):
        return repr(label)
    if isinstance(label, Mapping):
        return {repr(k): _plainly(v) for k, v in label.items()}
    if isinstance(label, (list, tuple)):
        return [_plainly(v) for v in label]
    if isinstance(label, (set, frozenset)):  # its order is another in every process
        return {"set": sorted(store.digest_json(_plainly(v)) for v in label)}
    array = guarded("a label of samples()", lambda: np.asarray(label))
    if array.dtype.kind != "O":
        return arrays.digest([{"label": array}])
    return guarded("a label of samples()", lambda: pickle.dumps(label, 4).hex())


def _feeds_file(folder: Path, name: str, feeds: Iterable[Feed] | None, using: Using) -> Path | None:
    """All of them in one file, under a name that tells its content; memory holds one at a time."""
    if feeds is None:
        return None
    # no process number: in two containers both may be 1
    draft = folder / f".tmp-{name}-{uuid.uuid4().hex}.npz"
    with store.asked(draft, None):  # while it is held, accel cache prune knows that it is written
        try:
            arrays.save(draft, feeds)
            path = folder / f"{name}-{arrays.digest(arrays.stream(draft))[: store.DIGITS]}.npz"
            with store.asked(path, using):
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
            store.lock(draft).unlink()
    return path


def _weights(job: Job) -> str:
    """Weights can change while the workload's source does not: they are read every time."""
    return child.call(
        "accel.steps.export:weights_digest",
        {"source": job.workload.source, "data": job.workload.data},
        str,
        log=job.log("weights"),
        timeout_s=READ_LIMIT_S,
        memory_bytes=limits.machine_bytes(),
    )


def told(job: Job) -> Options:
    """What a release tells of its inputs, the target's description among them."""
    return {**job.digests, "target": store.digest_json(job.target)}


def pick(job: Job, *names: str) -> Options:
    """Those of the job's digests that a step depends on."""
    return {name: job.digests[name] for name in names}
