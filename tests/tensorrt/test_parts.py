"""The parts of the TensorRT engine that need no TensorRT, no fake of it, and no GPU."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from accel import catalog
from accel import target as targets
from accel.engines import _tensorrt_cache as cache
from accel.engines import _tensorrt_errors as troubles
from accel.engines import _tensorrt_identity as identity
from accel.engines import _tensorrt_ladder as ladder
from accel.engines import _tensorrt_names as names
from accel.engines import _tensorrt_network as networks
from accel.engines import _tensorrt_options as choices_of
from accel.engines import _tensorrt_plugins as plugins
from accel.engines import _tensorrt_profiles as profiles
from accel.errors import CandidateBroken, EnvironmentProblem, UsageError
from accel.measure.here import Gpu
from accel.values import Port, Refusal, Request

ENGINE = catalog.load("engines", "tensorrt")
PORTS = (Port("ids", "int64", ("batch", "sequence")), Port("mask", "int64", ("batch", "sequence")))
FIXED = (Port("x", "float32", (1, 3, 8, 8)),)
H200 = identity.Identity("9.0", "NVIDIA H200", "11.4.0.106", "13.0", "x86_64")
FACTS = {**dataclasses.asdict(H200), "engine_file": "m.engine"}
ORIN = targets.load("jetson-orin-nano")


def asked(*rows: tuple[int, int, float]) -> list[Request]:
    """Requests of (batch, sequence, weight)."""
    return [Request("g", w, {p.name: np.ones((b, s), np.int64) for p in PORTS}) for b, s, w in rows]


def made(requests: Sequence[Request], most: int = 1, **more: Any) -> list[Any]:
    """The range of `ids` in each profile: (min, opt, max)."""
    found = profiles.groups(PORTS, requests, most, more.get("exact", False))
    ranges = [profiles.profile(PORTS, g, **more)["ids"] for g in found]
    return [tuple(tuple(r[b]) for b in ("min", "opt", "max")) for r in ranges]


# ---------------------------------------------------------------------------- profiles


def test_one_profile_holds_every_request_and_is_best_at_the_most_frequent() -> None:
    """It begins at 1, ends at the largest of each axis, and its best shape carries most weight."""
    rows = asked((1, 12, 0.3), (1, 20, 0.2), (1, 20, 0.2), (8, 128, 0.3))
    assert made(rows) == [((1, 1), (1, 20), (8, 128))]


def test_of_shapes_that_tie_the_larger_is_the_best() -> None:
    """A slow one that is hit too rarely by kernels chosen for a small one costs more."""
    assert made(asked((1, 12, 0.5), (4, 64, 0.5))) == [((1, 1), (4, 64), (4, 64))]


def test_there_is_room_above_what_was_requested() -> None:
    """Of open axes; not where a range is given, nor for a DLA core."""
    rows = asked((2, 12, 1.0))
    assert made(rows, room=2) == [((1, 1), (2, 12), (4, 24))]
    assert made(rows, room=2, ranges={"batch": [2, 2]}) == [((2, 1), (2, 12), (2, 24))]
    assert made(rows, room=2, exact=True) == [((2, 12),) * 3]
    group = [Request("g", 1.0, {"x": np.zeros((1, 3, 8, 8), np.float32)})]
    assert profiles.profile(FIXED, group, room=2)["x"]["max"] == [1, 3, 8, 8]


def test_several_profiles_part_small_from_large() -> None:
    """Each has the best and the largest of its own; none leaves a gap below."""
    rows = asked((1, 10, 0.4), (1, 12, 0.4), (8, 128, 0.2))
    assert made(rows, 2) == [((1, 1), (1, 12), (1, 12)), ((1, 1), (8, 128), (8, 128))]
    assert made(rows, 8)[0] == ((1, 1), (1, 10), (1, 10))
    assert len(made(rows, 8)) == 3


def test_ranges_are_taken_as_given() -> None:
    """They replace what the requests say of an axis, and must hold the requests."""
    rows = asked((2, 12, 1.0))
    assert made(rows, ranges={"sequence": [8, 512]}) == [((1, 8), (2, 12), (2, 512))]
    with pytest.raises(UsageError, match=r"'sequence' is 16 to 512; the requests need 12 to 12"):
        made(rows, ranges={"sequence": [16, 512]})
    with pytest.raises(UsageError, match=r"no axis is 'length'; open axes: batch, sequence"):
        made(rows, ranges={"length": [1, 2]})
    with pytest.raises(UsageError, match=r"must be \[smallest, largest\]"):
        made(rows, ranges={"batch": [4, 2]})


def test_a_dla_core_gets_a_profile_for_each_shape() -> None:
    """It takes fixed shapes only; too many are refused."""
    rows = asked((1, 10, 0.4), (8, 128, 0.2), (1, 10, 0.4))
    assert made(rows, exact=True) == [((1, 10),) * 3, ((8, 128),) * 3]
    with pytest.raises(CandidateBroken, match=r"have 9 shapes.*Pad the inputs"):
        made(asked(*((1, n, 1.0) for n in range(1, 10))), exact=True)


def test_a_graph_without_open_axes_needs_no_request() -> None:
    """One that has them does, and says which inputs."""
    (group,) = profiles.groups(FIXED, [], 1)
    assert profiles.profile(FIXED, group)["x"] == {b: [1, 3, 8, 8] for b in profiles.BOUNDS}
    with pytest.raises(CandidateBroken, match=r"ids, mask have open axes.*Add requests\(\)"):
        profiles.groups(PORTS, [], 1)


def test_values_of_a_shape_input_have_a_range_each() -> None:
    """Smallest and largest at each place; its length has to be the same in all."""
    rows = [Request("g", 1.0, {"size": np.array(v)}) for v in ([4, 32], [8, 16])]
    found = profiles.values("size", rows, rows[0].inputs)
    assert found == {"min": [4, 16], "opt": [4, 32], "max": [8, 32]}
    rows.append(Request("g", 1.0, {"size": np.array([1])}))
    with pytest.raises(CandidateBroken, match="different lengths"):
        profiles.values("size", rows, rows[0].inputs)
    with pytest.raises(CandidateBroken, match="no request to take it from"):
        profiles.values("size", [], {})


# ---------------------------------------------------------------------------- ladder


def test_the_workspace_is_a_share_of_what_is_free() -> None:
    """Less of it where the processor needs the same memory; never more than was asked for."""
    assert ladder.workspace(10 << 30, False) == 8 << 30
    assert ladder.workspace(10 << 30, True) == 5 << 30
    assert ladder.workspace(10 << 30, False, 1 << 30) == 1 << 30
    assert ladder.workspace(10 << 30, False, 64 << 30) == 8 << 30
    assert ladder.workspace(10 << 30, False, None, 4) == 2 << 30
    assert ladder.workspace(1 << 20, True) == ladder.LEAST_BYTES


def test_the_ladder_only_goes_down() -> None:
    """Every rung asks for less memory than the first; the cache is given up last."""
    first, *others = ladder.rungs()
    assert (first.divisor, first.level, first.cache) == (1, 3, True)
    assert all(r.divisor > 1 for r in others)
    assert [r.level for r in others] == [3, 3, 1, 0]
    assert [r.cache for r in others] == [True, True, True, False]
    assert all(r.level == 0 for r in ladder.rungs(0))
    assert len({(r.divisor, r.level, r.cache) for r in ladder.rungs(0)}) == len(ladder.rungs(0))
    roomy = ladder.rungs(room=True)
    assert [r.room for r in roomy] == [True, *[False] * 5]
    assert [dataclasses.replace(r, name="", room=False) for r in roomy[:2]] == [
        dataclasses.replace(first, name="")
    ] * 2


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("said", "cause", "memory"),
    [
        # as the threads in the table report them, shortened
        ("Could not find any implementation for node {ForeignNode[a...b]}.", "every kernel", True),
        ("[virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (no", "memory did not suffice", True),
        ("Error Code 1: Cuda Runtime (out of memory)", "memory did not suffice", True),
        ("Skipping tactic 13 due to insufficient memory on requested size", "skipped", True),
        ("Skipping tactic 0 due to insuficient memory on requested size", "skipped", True),
        ("CUDNN_STATUS_ALLOC_FAILED", "a library", True),
        ("Plugin not found, are the plugin name, version, and namespace correct?", "plugin", False),
        ("Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero", "symmetrically", False),
        ("Network has dynamic or shape inputs, but no optimization profile has been defined.",
         "no range", False),
        ("CUDA initialization failure with error: 35", "CUDA does not start", False),
        ("The engine plan file is generated on an incompatible device, expecting compute 8.6",
         "another kind of GPU", False),
        ("Input 0's element type (half) differs from input 1's element type (float).",
         "different types", False),
    ],
)  # fmt: skip
def test_known_words_are_told_by_their_cause(said: str, cause: str, memory: bool) -> None:
    """With where it was read and what to do next; memory sends the build down the ladder."""
    found = troubles.trouble(["something else", said])
    assert found is not None
    assert cause in found.cause
    assert found.memory == memory
    text = troubles.told([said])
    assert said in text
    assert found.source in text
    assert found.command in text


def test_every_known_failure_has_a_source_and_a_next_step() -> None:
    """A thread each, by repository and number."""
    for row in troubles.TABLE:
        assert "#" in row.source, row
        assert len(row.command.split()) > 2, row


def test_the_first_message_that_is_known_counts() -> None:
    """Errors come before warnings, and what follows an error follows from it."""
    lines = ["Plugin not found", "Could not find any implementation for node", "out of memory"]
    found = troubles.trouble(lines)
    assert found is troubles.trouble(lines[:1])
    assert troubles.trouble(lines[1:]) is not found


def test_unknown_words_are_passed_on() -> None:
    """With the place where the rest of them stands."""
    assert troubles.trouble(["no such words"]) is None
    assert "no such words" in troubles.told(["no such\n words"])
    assert "build's log" in troubles.told(["no such words"])
    assert "nothing at all" in troubles.told([])


# ---------------------------------------------------------------------------- identity


def test_the_file_name_carries_gpu_tensorrt_and_driver() -> None:
    """Nothing in it needs quoting in a shell."""
    name = identity.engine_name("model", H200)
    assert name == "model.sm90.NVIDIA-H200.trt11.4.0.106.cuda13.0.engine"
    odd = dataclasses.replace(H200, gpu="NVIDIA A100-SXM4-80GB (MIG 1g.10gb)")
    assert ".NVIDIA-A100-SXM4-80GB-MIG-1g-10gb." in identity.engine_name("m", odd)


@pytest.mark.parametrize(
    ("compatible", "change", "why"),
    [
        ({}, {}, ""),
        ({}, {"driver": "13.1"}, ""),
        ({}, {"driver": "12.9"}, "a driver for CUDA 13.0"),
        ({}, {"sm": "8.7", "gpu": "Orin"}, "compute capability 9.0 (NVIDIA H200)"),
        ({}, {"gpu": "NVIDIA H100"}, "built and timed on an NVIDIA H200"),
        ({}, {"tensorrt": "11.4.0.107"}, "to the last number"),
        ({}, {"tensorrt": "10.16.1.11"}, "needs TensorRT 11.4.0.106"),
        ({"version": True}, {"tensorrt": "11.5.0.1"}, ""),
        ({"version": True}, {"tensorrt": "11.3.0.1"}, "or a newer one"),
        ({"hardware": "SAME_COMPUTE_CAPABILITY"}, {"gpu": "NVIDIA H100"}, ""),
        ({"hardware": "SAME_COMPUTE_CAPABILITY"}, {"sm": "8.9"}, "compute capability 9.0"),
        ({"hardware": "AMPERE_PLUS"}, {"sm": "8.6", "gpu": "NVIDIA A10"}, ""),
        ({"hardware": "AMPERE_PLUS"}, {"sm": "7.5", "gpu": "Tesla T4"}, "8.0 or newer"),
        ({"hardware": "AMPERE_PLUS"}, {"tensorrt": "11.5.0.1"}, "to the last number"),
        ({"hardware": "AMPERE_PLUS"}, {"architecture": "aarch64"}, "it was built on x86_64"),
        ({}, {"architecture": "aarch64"}, "this machine's processor is aarch64"),
    ],
)
def test_a_plan_is_for_one_kind_of_machine(
    compatible: dict[str, Any], change: dict[str, str], why: str
) -> None:
    """GPU, TensorRT and driver, as far as the plan was not built to be compatible; with the reason."""
    found = identity.mismatch(
        {**FACTS, "compatible": compatible}, dataclasses.replace(H200, **change)
    )
    assert (why in found) if why else (found == "")


def test_a_plan_that_tells_no_processor_loads_where_it_did() -> None:
    """An older accel did not note it."""
    facts = {name: value for name, value in FACTS.items() if name != "architecture"}
    for processor in ("x86_64", "aarch64"):
        assert not identity.mismatch(facts, dataclasses.replace(H200, architecture=processor))


def test_a_plan_for_another_machine_is_refused_with_the_way_out() -> None:
    """Rebuild here, or take the portable graph."""
    other = dataclasses.replace(H200, sm="8.7", gpu="Orin")
    with pytest.raises(EnvironmentProblem) as caught:
        identity.require(FACTS, other, "model.onnx")
    for part in ("m.engine does not run here", "Orin has 8.7", "accel build model.onnx --engine tensorrt",
                 "accel finish", "portable=True"):  # fmt: skip
        assert part in str(caught.value)
    identity.require(FACTS, H200, "model.onnx")


def test_without_a_gpu_there_is_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is asked, and what to run is told."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(identity.machines, "gpus", tuple)
    with pytest.raises(EnvironmentProblem, match="Run: nvidia-smi"):
        identity.here("11.4.0.106")
    gpu = Gpu("NVIDIA H200", "9.0", 1, 132, "13.0")
    monkeypatch.setattr(identity.machines, "gpus", lambda: (gpu,))
    assert identity.here("11.4.0.106") == H200


def test_what_pypi_has_not_for_aarch64_is_jetpacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra's line installs on x86_64 alone."""
    absent = ModuleNotFoundError("no tensorrt", name="tensorrt")
    for machine, line in (
        ("x86_64", "Run: pip install 'accel-inference[tensorrt]'"),
        ("aarch64", "Run: sudo apt-get install python3-libnvinfer"),
    ):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert str(catalog.missing("engine 'tensorrt'", absent)).endswith(line)


# ---------------------------------------------------------------------------- cache


def test_timings_are_kept_apart_by_gpu_driver_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the variable says, else in the user's cache."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    changes = ({}, {"gpu": "NVIDIA H100"}, {"sm": "8.9"}, {"driver": "13.1"}, {"tensorrt": "11.3"})
    places = {cache.place(dataclasses.replace(H200, **c)) for c in changes}
    assert len(places) == len(changes)
    assert {p.parent for p in places} == {tmp_path}
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache.place(H200).parent == tmp_path / "home" / "accel" / "tensorrt"
    assert cache.begin(H200, None) == b""
    with pytest.raises(UsageError, match=r"timing_cache: .*none.* is not a file"):
        cache.begin(H200, str(tmp_path / "none"))


# ---------------------------------------------------------------------------- options, recipes


def test_options_are_checked() -> None:
    """An unknown one has its nearest name, a wrong value what is allowed; threads are the target's."""
    found = choices_of.read({"profiles": 2, "padding": {"ids": 0}}, ORIN)
    assert (found.profiles, found.level, found.tf32) == (2, 3, False)
    assert found.threads >= 1
    with pytest.raises(UsageError, match=r"'profile'. Did you mean 'profiles'\?"):
        choices_of.read({"profile": 2}, ORIN)
    for wrong in (
        {"level": 6}, {"profiles": 0}, {"tf32": 1}, {"hardware_compatibility": "TURING"},
        {"ranges": {"batch": 1}}, {"room": 0}, {"rebuilds": -1}, {"workspace_bytes": 0}, {"threads": True},
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be"):
            choices_of.read(wrong, ORIN)
    assert {f.name for f in dataclasses.fields(choices_of.Choices)} == set(choices_of.KINDS)


def test_a_dla_core_that_the_target_has_not_is_refused() -> None:
    """It would fall to the GPU without a word."""
    with_one = dataclasses.replace(ORIN, dla_cores=1)
    assert choices_of.read({"dla": 0}, with_one).dla == 0
    for core, target in ((0, dataclasses.replace(ORIN, dla_cores=0)), (1, with_one)):
        with pytest.raises(CandidateBroken, match=rf"DLA core {core} was asked for.*has \d"):
            choices_of.read({"dla": core}, target)


def test_what_is_offered_depends_on_requests_and_hardware() -> None:
    """Several profiles for several shapes, TF32 for fp32 from Ampere on, a DLA core for fp16."""
    few, many = asked((1, 8, 1.0)), asked((1, 8, 0.5), (4, 8, 0.5))
    agx = dataclasses.replace(ORIN, dla_cores=2)

    def settings(recipe: str, target: Any, requests: Any) -> list[set[str]]:
        found = ENGINE.options(recipe, target, requests, {})
        assert all(choices_of.read(o, target) for o in found)
        return [set(o) - {"threads", "cuda_graph"} for o in found]

    assert settings("fp32", ORIN, few) == [set(), {"tf32"}]
    assert settings("fp32", ORIN, many) == [set(), {"profiles"}, {"tf32"}]
    assert settings("fp32", targets.load("t4"), few) == [set()]
    assert settings("fp16", agx, few) == [set(), {"dla"}]
    assert settings("int8_static", agx, few) == [set()]


def test_recipes_are_judged_by_the_targets_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TensorRT and no GPU is needed to answer for another machine."""
    monkeypatch.setattr(ENGINE.here, "gpus", tuple)
    orin, t4, cpu = (
        ENGINE.recipes(targets.load(n)) for n in ("jetson-orin-nano", "t4", "cpu-local")
    )
    assert set(orin) == set(catalog.names("recipes"))
    assert orin["fp32"] is orin["bf16"] is orin["int8_static"] is None
    assert isinstance(t4["bf16"], Refusal)
    assert "8.0" in t4["bf16"].reason
    assert t4["int8_static"] is None
    assert "#4698" in orin["int8_dynamic"].reason
    assert orin["weight_only"] is None
    assert "int4 weights need compute capability 8.0" in t4["weight_only"].reason
    assert cpu["fp32"] is None
    assert "no compute_capability" in cpu["int8_static"].reason


def test_the_quantizer_is_told_the_only_scheme_there_is() -> None:
    """Signed, symmetric, weights per channel: anything else has a zero point."""
    found = ENGINE.style(ORIN)
    assert found.weight_signed
    assert found.activation_signed
    assert found.weight_symmetric
    assert found.activation_symmetric
    assert found.per_channel


# ---------------------------------------------------------------------------- graph, names


def kernel_graph(path: Path) -> Path:
    """One node of accel.kernels, with its function, as `accel swap` leaves it."""
    member = catalog.load("kernels", "residual_layernorm")
    body = member.function(20)
    marks = {"plugin_namespace": "accel", "plugin_version": "1", "aot": 1}
    node = helper.make_node(
        member.OP, ["x", "r", "g", "b"], ["y", "s"], domain=body.domain, epsilon=1e-5, **marks
    )
    ports = {"x": ["n", 8], "r": ["n", 8], "g": [8], "b": [8], "y": ["n", 8], "s": ["n", 8]}
    values = {k: helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in ports.items()}
    inputs, outputs = [values[k] for k in "xrgb"], [values[k] for k in "ys"]
    opsets = [*body.opset_import, helper.make_opsetid(body.domain, 1)]
    model = helper.make_model(
        helper.make_graph([node], "one", inputs, outputs),
        functions=[body], opset_imports=opsets, ir_version=10,
    )  # fmt: skip
    onnx.save(model, path)
    return path


def test_a_kernel_that_becomes_a_plugin_stays_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is parsed as it is, and its nodes are counted."""
    monkeypatch.setattr(plugins, "register", lambda _, kernels: dict.fromkeys(kernels))
    found = networks.prepared(kernel_graph(tmp_path / "m.onnx"), ORIN)
    assert (found.content, dict(found.plugins), found.refused) == (
        None, {"residual_layernorm": 1}, (),
    )  # fmt: skip
    assert (found.opset, found.ir_version) == (20, 10)


def test_a_kernel_that_is_refused_is_computed_by_its_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No node is left that a parser would look for a plugin for, and the reason is kept."""
    no = Refusal("kernel residual_layernorm", "TensorRT 10.3 is installed")
    monkeypatch.setattr(plugins, "register", lambda _, kernels: dict.fromkeys(kernels, no))
    path = kernel_graph(tmp_path / "m.onnx")
    found = networks.prepared(path, ORIN)
    assert found.content is not None
    inlined = onnx.load_model_from_string(found.content)
    assert {n.domain for n in inlined.graph.node} == {""}
    assert not found.plugins
    assert found.refused == ("kernel residual_layernorm: TensorRT 10.3 is installed",)
    bare = onnx.load(path)
    del bare.functions[:]
    onnx.save(bare, path)
    with pytest.raises(CandidateBroken, match="no functions of these names"):
        networks.prepared(path, ORIN)


def test_warnings_are_kept_once_and_counted() -> None:
    """In the order in which they came; errors apart."""
    said = [("WARNING", "a"), ("ERROR", "no"), ("WARNING", "b\n"), ("WARNING", "a")]
    assert names.warnings(said) == ["a", "b"]
    assert names.errors(said) == ["no"]
    many = names.warnings([("WARNING", str(i)) for i in range(100)])
    assert len(many) == names.WARNINGS_KEPT + 1
    assert many[-1] == "and 60 more"
