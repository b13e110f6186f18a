"""What both subjects are asked for the sake of accuracy: labelled samples, requests, golden inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accel import arrays, golden
from accel import workload as workloads
from accel.errors import UsageError
from accel.evidence import Subject
from accel.measure.closeness import Shape
from accel.values import Feed, Model, Request, Split, Workload

DRAWN = "random"  # the group of what `accel.workload` draws for a graph without data


@dataclass(frozen=True)
class Asked:
    """The feeds, in the order in which they are run: the samples' calls, then the others."""

    workload: Workload | None
    split: Split
    samples: tuple[tuple[tuple[Feed, ...], Any], ...]  # (calls, label); empty: no labels
    others: tuple[Feed, ...]
    note: str = ""
    drawn: bool = False  # the requests are random numbers, of which nothing follows for real inputs

    @property
    def feeds(self) -> list[Feed]:
        """All of them."""
        return [call for calls, _ in self.samples for call in calls] + list(self.others)

    @property
    def units(self) -> list[tuple[Feed, ...]]:
        """What is counted as one: a sample's calls, or a feed alone where there are no labels."""
        return [calls for calls, _ in self.samples] or [(feed,) for feed in self.others]

    @property
    def clustered(self) -> bool:
        """Do samples belong together, so that they are not independent of each other?"""
        return bool(self.samples and self.workload and self.workload.clusters)

    @property
    def origin(self) -> str:
        """Of `units`, for people."""
        return f"{self.split} split{self.note}" if self.samples else "requests, without labels"


def gather(candidate: Subject, baseline: Subject, source: str | None) -> Asked:
    """Samples of the workload's certify split (the search split where there is none); the requests,
    the workload's own before those that were packed; and the baseline's golden inputs.

    Raises UsageError for a workload that is broken, and where there is nothing to run at all."""
    workload = None if source is None else workloads.load(source)
    split, samples, note = _samples(workload)
    requests, held = _requests(workload, candidate, baseline), _golden(baseline)
    every = [*(r.inputs for r in requests), *held]
    others = list({arrays.digest([feed]): feed for feed in every}.values())  # each counts once
    if not samples and not others:
        raise UsageError(
            f"There is nothing to run {candidate.name} and {baseline.name} on: no samples, no "
            "requests, no golden inputs. Add --workload FILE.py, or gate releases."
        )
    own = workload is not None and not workload.source.endswith(".onnx")
    # golden inputs are of the same kind as the requests
    drawn = not own and bool(requests) and all(r.group == DRAWN for r in requests)
    return Asked(workload, split, tuple(samples), tuple(others), note, drawn)


def paired(feeds: Asked, outputs: list[Feed]) -> list[tuple[Feed, ...]]:
    """The outputs of each unit's calls."""
    answers = iter(outputs)
    return [tuple(next(answers) for _ in unit) for unit in feeds.units]


def shapes(model: Model, feeds: Sequence[Feed], outputs: Sequence[Feed]) -> dict[str, Shape]:
    """The outputs' declared shapes, in which an axis that was as large as an input's of the same
    symbol in every feed is a number: a batch has its size from there, boxes have not."""
    sizes: list[dict[int | str, int]] = [
        {
            symbol: size
            for port in model.inputs
            for symbol, size in zip(port.shape, feed[port.name].shape, strict=False)
            if isinstance(symbol, str) and symbol != "?"
        }
        for feed in feeds
    ]

    def axis(name: str, i: int, size: int | str) -> int | str:
        rows = zip(sizes, outputs, strict=True)
        given = all(found[name].shape[i : i + 1] == (known.get(size),) for known, found in rows)
        return 0 if given else size

    return {p.name: tuple(axis(p.name, i, d) for i, d in enumerate(p.shape)) for p in model.outputs}


def _samples(workload: Workload | None) -> tuple[Split, list[Any], str]:
    if workload is None or workload.samples is None:
        return "certify", [], ""
    found = workloads.samples(workload, "certify")
    if found:
        return "certify", found, ""
    found = workloads.samples(workload, "search")
    if not found:
        raise UsageError(f"{workload.source}: samples() yields nothing for either split.")
    return "search", found, " (there is no certify split)"


def _requests(
    workload: Workload | None, candidate: Subject, baseline: Subject
) -> tuple[Request, ...]:
    own = workload is not None and (workload.requests or workload.inputs)
    found = workloads.requests(workload) if own and workload else ()
    return found or baseline.requests or candidate.requests


def _golden(baseline: Subject) -> list[Feed]:
    held = (baseline.path / "golden.npz").is_file()
    return golden.read(baseline.path)[0] if held else []
