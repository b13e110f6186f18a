"""The instrument on real workers: what is kept, in which order, and who is lost with whom."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import testing
from accel.errors import CandidateBroken, InstrumentUnfit, UsageError
from accel.measure import instrument, load, machine, screening
from accel.measure.instrument import Arm
from accel.measure.tally import Tally, measurement
from accel.measure.worker import Block, Worker
from accel.steps.bench import bench
from accel.values import Measurement, Model, Port, Refusal, Request

pytestmark = pytest.mark.alone
SHORT: dict[str, Any] = {"block_s": 0.002, "warmup_calls": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return testing.mlp(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...], Block]]:
    """Every block that any worker runs, in order; the real one runs it."""
    seen: list[tuple[str, tuple[int, ...], Block]] = []
    real = Worker.block

    def block(self: Worker, indexes: Sequence[int], *rest: Any, **words: Any) -> Block:
        found = real(self, indexes, *rest, **words)
        seen.append((self.name, tuple(indexes), found))
        return found

    monkeypatch.setattr(Worker, "block", block)
    return seen


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is seen on the machine, so that no block is retaken."""
    monkeypatch.setattr(load, "disturbed", lambda *_: False)


def requests(model: Model) -> list[Request]:
    """Two requests of one group and one of another."""
    return [
        testing.request(model, batch=n, group=group, weight=w)
        for n, group, w in ((1, "small", 0.5), (2, "small", 0.3), (4, "large", 0.2))
    ]


def arms(model: Model, *names: str) -> list[Arm]:
    return [Arm(name, testing.plan(model)) for name in names]


def endless(path: Path) -> Model:
    """A graph whose Loop never ends: y = x after 2**62 turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Relu", ["value"], ["value_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 8]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, ["batch", 8]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [
            numpy_helper.from_array(np.array(2**62, np.int64), "turns"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    ports = (Port("x", "float32", ("batch", 8)),), (Port("y", "float32", ("batch", 8)),)
    return Model(path, "endless", *ports)


def measured(found: Measurement | Refusal) -> Measurement:
    assert isinstance(found, Measurement), found
    return found


def workers() -> list[psutil.Process]:
    """Workers below this process that are alive, guardians included."""
    alive = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "accel.measure.process" in process.cmdline():
                alive.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return alive


def kill_when_seen(log: str) -> threading.Thread:
    """Send SIGSEGV to the worker that prints to the file of this name, once it has started."""

    def hunt() -> None:
        for _ in range(2000):
            for process in workers():
                try:
                    prints = Path(f"/proc/{process.pid}/fd/1").readlink().name
                    if prints == log and process.pid == os.getpgid(process.pid):
                        process.send_signal(signal.SIGSEGV)
                        return
                except (OSError, psutil.NoSuchProcess):
                    continue
            time.sleep(0.005)

    thread = threading.Thread(target=hunt)
    thread.start()
    return thread


@pytest.mark.usefixtures("quiet")
def test_every_sample_of_every_block_is_kept(
    model: Model, tmp_path: Path, blocks: list[tuple[str, tuple[int, ...], Block]]
) -> None:
    """What the workers answered is what the files hold: all of it, in order, with its place."""
    found = instrument.compare(
        arms(model, "a", "b"), requests(model), tmp_path, epochs=2, rounds=3, **SHORT
    )
    for one in map(measured, found):
        mine = [b for name, _, b in blocks if name == one.arm]
        columns = instrument.columns(one)
        seconds = [ns * 1e-9 for b in mine for ns in b.durations_ns]
        asked = [b.indexes[k % len(b.indexes)] for b in mine for k in range(len(b.durations_ns))]
        assert columns["seconds"].tolist() == seconds
        assert columns["request"].tolist() == asked
        cells = set(zip(columns["epoch"].tolist(), columns["round"].tolist(), strict=True))
        assert cells == {(e, r) for e in range(2) for r in range(3)}
        assert {len(c) for c in columns.values()} == {len(seconds)}
        assert (one.groups, one.weights) == (("small", "small", "large"), (0.5, 0.3, 0.2))
    assert [f.warmup_calls for f in map(measured, found)] == [2, 2]


@pytest.mark.usefixtures("quiet")
def test_a_block_is_whole_passes_over_its_group(
    model: Model, tmp_path: Path, blocks: list[tuple[str, tuple[int, ...], Block]]
) -> None:
    """Each request of a group is timed equally often, in every block of its own group."""
    instrument.compare(arms(model, "a"), requests(model), tmp_path, epochs=1, rounds=2, **SHORT)
    assert [indexes for _, indexes, _ in blocks] == [(0, 1), (2,)] * 2
    assert all(len(b.durations_ns) % len(indexes) == 0 for _, indexes, b in blocks)


@pytest.mark.usefixtures("quiet")
def test_the_order_of_arms_is_drawn_anew_each_round_from_the_seed(
    model: Model, tmp_path: Path, blocks: list[tuple[str, tuple[int, ...], Block]]
) -> None:
    """Every arm once a round; the same seed, the same orders; another seed, others."""

    def orders(seed: int) -> list[tuple[str, ...]]:
        blocks.clear()
        one = [testing.request(model)]
        instrument.compare(
            arms(model, "a", "b", "c"), one, tmp_path, epochs=1, rounds=6, seed=seed, **SHORT
        )
        names = [name for name, _, _ in blocks]
        return [tuple(names[i : i + 3]) for i in range(0, len(names), 3)]

    first, again, other = orders(0), orders(0), orders(1)
    assert all(sorted(order) == ["a", "b", "c"] for order in first)
    assert len(set(first)) > 1
    assert first == again
    assert first != other


@pytest.mark.usefixtures("quiet")
def test_arms_that_do_not_fit_together_take_turns(
    model: Model, tmp_path: Path, blocks: list[tuple[str, tuple[int, ...], Block]]
) -> None:
    """With no memory for both, each has its rounds in one piece, all are measured, and it is said."""
    one, told = [testing.request(model)], list[str]()
    words = {"epochs": 1, "rounds": 3, "memory_bytes": 1, "progress": told.append, **SHORT}
    found = instrument.compare(arms(model, "a", "b"), one, tmp_path, **words)
    names = "".join(name for name, _, _ in blocks)
    assert names in ("aaabbb", "bbbaaa")
    assert "do not fit in memory together" in told[0]
    assert all(isinstance(f, Measurement) for f in found)


def test_a_crash_loses_its_arm_and_not_the_run(model: Model, tmp_path: Path) -> None:
    """A worker killed by SIGSEGV is a Refusal that says so; the other arm has all its rounds."""
    hunter = kill_when_seen("01-victim.log")
    found = instrument.compare(
        arms(model, "sane", "victim"), [testing.request(model)], tmp_path, epochs=2, rounds=3,
        **SHORT,
    )  # fmt: skip
    hunter.join()
    assert set(instrument.columns(measured(found[0]))["epoch"].tolist()) == {0, 1}
    assert isinstance(found[1], Refusal)
    assert found[1].what == "victim"
    assert "SIGSEGV" in found[1].reason
    assert "01-victim.log" in found[1].reason


def test_a_hang_loses_its_arm_and_is_not_left_running_beside_the_others(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm that passes the limit is killed at once: it would disturb what is still measured."""
    monkeypatch.setattr(Worker.ask, "__defaults__", (4.0,))
    alive: list[int] = []
    real = Worker.block

    def block(self: Worker, *rest: Any, **words: Any) -> Block:
        alive.append(sum(p.pid == os.getpgid(p.pid) for p in workers()))
        return real(self, *rest, **words)

    monkeypatch.setattr(Worker, "block", block)
    hung = Arm("hung", testing.plan(endless(tmp_path / "endless.onnx")))
    found = instrument.compare(
        [hung, *arms(model, "sane")], [testing.request(model)], tmp_path / "out",
        epochs=1, rounds=2, **SHORT,
    )  # fmt: skip
    assert isinstance(found[0], Refusal)
    assert "load did not end within 4 s" in found[0].reason
    assert len(instrument.columns(measured(found[1]))["seconds"])
    assert set(alive) == {1}


def test_an_arm_that_refuses_its_requests_is_lost_alone(model: Model, tmp_path: Path) -> None:
    """An error of any kind inside a worker is its arm's; the other arm is timed."""
    other = testing.mlp(tmp_path / "other.onnx", width=5)  # its input is not that of the requests
    found = instrument.compare(
        [Arm("other", testing.plan(other)), *arms(model, "fine")],
        requests(model),
        tmp_path / "out",
        epochs=1,
        rounds=2,
        **SHORT,
    )
    assert isinstance(found[0], Refusal)
    assert "x" in found[0].reason
    assert measured(found[1]).arm == "fine"


def test_nothing_is_left_running(model: Model, tmp_path: Path) -> None:
    """When the comparison is over its workers are gone."""
    one = [testing.request(model)]
    instrument.compare(arms(model, "a"), one, tmp_path, epochs=1, rounds=1, **SHORT)
    psutil.wait_procs(workers(), timeout=10)
    assert workers() == []


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("answer", "epochs"), [(True, 2), (False, 4)])
def test_more_epochs_only_until_enough(
    model: Model, tmp_path: Path, answer: bool, epochs: int
) -> None:
    """`enough` sees all that was found, after the first epochs; without its yes the most are run."""
    asked: list[int] = []

    def enough(found: Any) -> bool:
        asked.append(len(found))
        return answer

    found = instrument.compare(
        arms(model, "a"), [testing.request(model)], tmp_path, epochs=2, most_epochs=4,
        enough=enough, rounds=1, **SHORT,
    )  # fmt: skip
    assert set(instrument.columns(measured(found[0]))["epoch"].tolist()) == set(range(epochs))
    assert asked == [1] * (1 if answer else 2)


def test_a_plan_that_does_not_load_is_broken(model: Model, tmp_path: Path) -> None:
    """The quick timing raises what the worker said."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x08garbage")
    plan = testing.plan(Model(broken, "broken", model.inputs, model.outputs))
    with pytest.raises(CandidateBroken, match="ONNX Runtime refuses the graph"):
        screening.quick(plan, [testing.request(model)], tmp_path, budget_s=0.01)


@pytest.mark.parametrize("there", ["plans", "requests", "neither"])
def test_nothing_to_time_is_an_error(model: Model, tmp_path: Path, there: str) -> None:
    """No plans, or no requests, never pass for a result."""
    plans = [testing.plan(model)] if there == "plans" else []
    asked = [testing.request(model)] if there == "requests" else []
    with pytest.raises(UsageError, match="nothing to time"):
        bench(plans, asked, tmp_path)


class Script:
    """A worker whose blocks are numbered, beside which others use a given number of cores."""

    def __init__(self, foreign: Sequence[float], durations_ns: Sequence[int]) -> None:
        self.foreign, self.durations_ns = list(foreign), durations_ns
        self.ran, self.busy_s, self.wall_s = 0, 0.0, 0.0

    def block(self, indexes: tuple[int, ...], *_: Any, **__: Any) -> Block:
        self.busy_s += self.foreign[self.ran]
        self.wall_s += 1.0
        self.ran += 1
        return Block(indexes, (self.durations_ns[self.ran - 1],), 0.0)

    def now(self) -> load.Moment:
        return load.Moment(self.wall_s, self.busy_s)


@pytest.mark.parametrize("durations_ns", [(1, 2, 3), (3, 2, 1), (5, 5, 5)])
@pytest.mark.parametrize(
    ("foreign", "kept", "retaken", "disturbed"),
    [
        ((0.0, 0.0, 0.0), 0, 0, 0),
        ((1.0, 0.0, 0.0), 1, 1, 0),
        ((1.0, 0.9, 0.0), 2, 2, 0),
        ((1.0, 0.5, 0.9), 1, 2, 1),
        ((0.5, 0.9, 1.0), 0, 2, 1),
    ],
)
def test_a_disturbed_block_is_retaken_whatever_its_times(
    monkeypatch: pytest.MonkeyPatch,
    durations_ns: tuple[int, ...],
    foreign: tuple[float, ...],
    kept: int,
    retaken: int,
    disturbed: int,
) -> None:
    """The quietest of at most three is kept; the rule gives the same for any latencies."""
    script, tally = Script(foreign, durations_ns), Tally()
    monkeypatch.setattr(load, "now", script.now)
    worker: Any = script
    block = instrument._quiet_block(worker, (0,), 0.1, tally, awake=True)
    assert block.durations_ns == (durations_ns[kept],)
    assert (tally.retaken, tally.disturbed) == (retaken, disturbed)
    assert tally.foreign == pytest.approx([foreign[kept]])


def test_on_a_machine_that_never_rests_retaking_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once most blocks are disturbed, each is run just once, and counted."""
    script, tally = Script([1.0] * 100, [1] * 100), Tally()
    monkeypatch.setattr(load, "now", script.now)
    worker: Any = script
    for _ in range(20):
        instrument._quiet_block(worker, (0,), 0.1, tally, awake=True)
    assert tally.disturbed == 20
    assert script.ran == 20 + tally.retaken < 40


def test_a_tally_keeps_all_and_says_how_much_was_disturbed(model: Model, tmp_path: Path) -> None:
    """Samples go to disk as they are; the shares are of the blocks that were kept."""
    tally = Tally(load_s=[1.0, 3.0, 2.0], cold_s=[0.1], foreign=[0.0, 1.0], disturbed=1)
    tally.add(Block((0, 2), (10, 20, 30, 40), 0.0), epoch=1, number=7)
    made = measurement("a", tmp_path / "a.npz", tally, 3, requests(model))
    columns = {k: v.tolist() for k, v in instrument.columns(made).items()}
    assert columns.pop("seconds") == pytest.approx([1e-8, 2e-8, 3e-8, 4e-8])
    assert columns == {"request": [0, 2, 0, 2], "epoch": [1] * 4, "round": [7] * 4}
    assert (made.load_s, made.machine["disturbed_share"]) == (2.0, 0.5)
    assert Counter(made.machine).keys() >= machine.fingerprint().keys()


@pytest.mark.parametrize(
    ("share", "foreign", "fit"), [(0.9, 50.0, False), (0.9, 0.01, True), (0.5, 50.0, True)]
)
def test_a_machine_that_others_hold_is_unfit(
    model: Model, tmp_path: Path, share: float, foreign: float, fit: bool
) -> None:
    """Nearly every block disturbed, and heavily: the error says how much, and what to do."""
    seen = {"disturbed_share": share, "foreign_cores": foreign}
    one = Measurement("a", tmp_path / "a.npz", ("all",), (1.0,), 0, 0, 0, 0, 0, seen)
    if fit:
        instrument.require_fit([one])
    else:
        with pytest.raises(InstrumentUnfit, match=r"50.0 cores beside 90% of the blocks.*rerun"):
            instrument.require_fit([one])
