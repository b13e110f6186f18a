"""A TensorRT build from end to end over the fake: every state that the engine can come into.

What the fake cannot show: that a kernel is right or quick. No duration is looked at here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import test_parts
from fake_world import World
from onnx import TensorProto, helper, numpy_helper

from accel import catalog, graph, manifest, store, testing
from accel import target as targets
from accel.engines import _tensorrt_build as builds
from accel.engines import _tensorrt_cache as cache
from accel.engines import _tensorrt_identity as identity
from accel.engines import _tensorrt_memory as memory
from accel.engines import _tensorrt_names as names
from accel.engines import _tensorrt_plugins as plugins
from accel.engines import _tensorrt_session as sessions
from accel.errors import CandidateBroken, EnvironmentProblem, MissingExtra
from accel.measure.here import Gpu
from accel.values import Model, Plan, Request, Target

ENGINE = catalog.load("engines", "tensorrt")
H100 = targets.load("h100")
WITH_DLA = dataclasses.replace(H100, dla_cores=1)
FREE_BYTES = 10 << 30
GIB8 = 8 << 30  # the share of it that a build gets
Build = Callable[..., Plan]


def gpu(name: str = "NVIDIA H100 80GB HBM3", capability: str = "9.0", driver: str = "13.0") -> Gpu:
    """As the driver would describe it."""
    return Gpu(name, capability, 80 << 30, 132, driver)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """A fake GPU with free memory, and a folder for timings; call it for another GPU."""
    found = memory.Memory(FREE_BYTES, False)

    def be(*words: str, **named: str) -> None:
        monkeypatch.setattr(identity.machines, "gpus", lambda: (gpu(*words, **named),))

    monkeypatch.setattr(memory, "free", lambda: found)
    monkeypatch.setattr(sessions, "tried", lambda *_: {})  # no driver here: see session_checks.py
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "timings"))
    be()
    return be


@pytest.fixture
def build(fake_trt: World, machine: Callable[..., None], tmp_path: Path) -> Build:
    """build(model, requests, target, **options) -> the plan, each in a folder of its own."""

    def make(
        model: Model | None = None,
        requests: Sequence[Request] | None = None,
        target: Target = H100,
        **options: Any,
    ) -> Plan:
        model = model or testing.mlp(tmp_path / "mlp.onnx")
        asked = [testing.request(model, batch=b) for b in (1, 4)] if requests is None else requests
        out = tmp_path / f"plan-{len(list(tmp_path.glob('plan-*')))}"
        out.mkdir()
        plan: Plan = ENGINE.build(model, target, options, asked, out)
        return plan

    return make


def test_a_plan_says_whom_it_is_for_and_what_it_holds(build: Build, fake_trt: World) -> None:
    """Engine, layers and timings, each with its digest; facts that survive being written as JSON."""
    plan = build()
    facts, name = plan.facts, plan.facts["engine_file"]
    assert name == f"mlp.sm90.NVIDIA-H100-80GB-HBM3.trt{fake_trt.version}.cuda13.0.engine"
    assert {p.name for p in plan.path.iterdir()} == {name, "layers.json", "timing.cache"}
    assert (facts["sm"], facts["tensorrt"], facts["driver"]) == ("9.0", fake_trt.version, "13.0")
    for file, key in ((name, "engine"), ("layers.json", "layers"), ("timing.cache", "timings")):
        assert store.digest_file(plan.path / file) == facts["digests"][key]
    assert json.loads((plan.path / "layers.json").read_text())["Layers"][0]["LayerType"] == "MatMul"
    ports = {p["name"]: (p["mode"], p["dtype"], p["shape"]) for p in facts["io"]}
    assert ports == {"x": ("input", "float32", [-1, 8]), "y": ("output", "float32", [-1, 4])}
    assert facts["profiles"] == [{"x": {"min": [1, 8], "opt": [4, 8], "max": [8, 8]}}]
    assert sum(facts["precision"].values()) == 3
    assert set(facts["precision"]) == {"float32"}
    assert not plan.portable
    assert plan.versions["tensorrt"] == fake_trt.version
    assert plan.placement is not None
    assert manifest.load(Plan, manifest.dump(plan)) == plan


def test_the_network_is_strongly_typed_and_no_precision_flag_is_set(
    build: Build, fake_trt: World
) -> None:
    """Precision is the graph's; TF32 is cleared, and details of the layers are asked for."""
    import tensorrt as trt

    build()
    (network,) = fake_trt.called("Builder.create_network")
    assert network["flags"] == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert fake_trt.called("IBuilderConfig.set_flag") == []
    assert [c["flag"].name for c in fake_trt.called("IBuilderConfig.clear_flag")] == ["TF32"]
    (pool,) = fake_trt.called("IBuilderConfig.set_memory_pool_limit")
    assert (pool["pool"].name, pool["pool_size"]) == ("WORKSPACE", GIB8)
    (parsed,) = fake_trt.called("OnnxParser.parse_from_file")
    assert parsed["model"].endswith("mlp.onnx")


def test_tf32_is_only_left_on_where_it_was_asked_for(build: Build, fake_trt: World) -> None:
    """And the facts say so."""
    assert build(tf32=True).facts["tf32"] is True
    assert fake_trt.called("IBuilderConfig.clear_flag") == []
    assert build().facts["tf32"] is False


def test_the_ledger_of_layers_is_read_back(build: Build, fake_trt: World, tmp_path: Path) -> None:
    """By operator, with what runs it and its type; text that cannot be read costs no plan."""
    ledger = build().placement
    assert ledger is not None
    assert {p.operator: (p.count, p.device, p.dtype) for p in ledger.placed} == {
        "MatMul": (2, "GPU", "float32"), "Relu": (1, "GPU", "float32"),
    }  # fmt: skip
    fake_trt.layers = "not JSON"
    plan = build()
    assert plan.placement is None
    assert "is not JSON" in plan.facts["placement_unread"]


def test_a_precision_that_was_asked_for_and_not_kept_shows(build: Build, tmp_path: Path) -> None:
    """The fake says that all layers run in float32: of an int8 graph that is a slip."""
    model = testing.convnet(tmp_path / "convnet.onnx")
    feeds = [dict(testing.request(model, batch=2).inputs)]
    recipe = catalog.load("recipes", "int8_static")
    (tmp_path / "int8").mkdir()
    made = recipe.apply(
        model, feeds, ENGINE.style(H100), recipe.variants(ENGINE.style(H100))[0], tmp_path / "int8"
    )
    ledger = build(made.model).placement
    assert ledger is not None
    slipped = {p.operator for p in ledger.placed if p.planned_dtype}
    assert slipped == {"Conv", "Gemm"}


def test_weights_may_lie_beside_the_file(build: Build, tmp_path: Path) -> None:
    """The parser is given the file, not its bytes, so that their size does not matter."""
    plain = testing.mlp(tmp_path / "plain.onnx")
    onnx.save(
        onnx.load(plain.path), tmp_path / "big.onnx", save_as_external_data=True,
        location="big.data", size_threshold=0,
    )  # fmt: skip
    plan = build(graph.describe(tmp_path / "big.onnx"))
    assert plan.facts["engine_file"].startswith("big.")


def test_several_profiles_are_built_into_one_engine(build: Build, fake_trt: World) -> None:
    """Smallest first, as the facts have them."""
    plan = build(profiles=2)
    tops = [p["x"]["max"] for p in plan.facts["profiles"]]
    assert tops == [[1, 8], [8, 8]]  # the last has room for twice as many
    said = [c["max"] for c in fake_trt.called("IOptimizationProfile.set_shape")]
    assert [list(m) for m in said] == tops
    assert len(fake_trt.called("IBuilderConfig.add_optimization_profile")) == 2


def test_an_input_that_is_read_as_a_shape_gets_a_range_of_values(
    build: Build, fake_trt: World, tmp_path: Path
) -> None:
    """Not of sizes."""
    graph_ = helper.make_graph(
        [helper.make_node("Reshape", ["x", "size"], ["y"])], "reshape",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
         helper.make_tensor_value_info("size", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph_, opset_imports=opsets, ir_version=8), tmp_path / "r.onnx")
    rows = [
        Request("g", 1.0, {"x": np.zeros(a * b, np.float32), "size": np.array([a, b])})
        for a, b in ((2, 3), (4, 2))
    ]
    plan = build(graph.describe(tmp_path / "r.onnx"), rows)
    (profile,) = plan.facts["profiles"]
    assert profile["size"]["values"] == {"min": [2, 2], "opt": [4, 2], "max": [4, 3]}
    (said,) = fake_trt.called("IOptimizationProfile.set_shape_input")
    assert (said["input"], said["min"], said["max"]) == ("size", [2, 2], [4, 3])


# ---------------------------------------------------------------------------- timings


def test_a_second_build_begins_with_the_timings_of_the_first(
    build: Build, fake_trt: World, tmp_path: Path
) -> None:
    """They are kept by GPU, driver and TensorRT, and shipped in the plan."""
    first, second = build(), build()
    assert (first.facts["timings_found"], second.facts["timings_found"]) == (False, True)
    (kept,) = (tmp_path / "timings").glob("*.cache")
    assert kept.name == first.facts["timings_kept"]
    assert kept.read_bytes() == (second.path / "timing.cache").read_bytes()
    assert fake_trt.version in kept.name


def test_timings_of_another_model_are_kept(build: Build, tmp_path: Path) -> None:
    """What other builds left is added to, not replaced; also what came while this one ran."""
    shipped = build().path / "timing.cache"
    (kept,) = (tmp_path / "timings").glob("*.cache")
    before = entries(kept)
    build(testing.convnet(tmp_path / "convnet.onnx"))
    both = entries(kept)
    assert before < both
    build(timing_cache=str(shipped))  # knows nothing of the other model
    assert entries(kept) == both


def entries(path: Path) -> set[str]:
    """Of the fake's timings: the layers."""
    return set(json.loads(path.read_bytes().partition(b"\n")[2])["entries"])


def test_a_release_timings_can_be_asked_for(build: Build, machine: Any, tmp_path: Path) -> None:
    """Of the same GPU they are found; those of another one are refused, and the build goes on."""
    shipped = build().path / "timing.cache"
    (tmp_path / "timings").rename(tmp_path / "gone")
    assert build(timing_cache=str(shipped)).facts["timings_found"] is True
    text = shipped.read_bytes().replace(b'"sm": "9.0"', b'"sm": "8.7"')
    (tmp_path / "other.cache").write_bytes(text)
    assert build(timing_cache=str(tmp_path / "other.cache")).facts["timings_found"] is False
    (tmp_path / "bad.cache").write_bytes(b"nonsense")
    assert build(timing_cache=str(tmp_path / "bad.cache")).facts["timings_found"] is False


def test_a_folder_that_cannot_be_written_costs_the_timings_only(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The reason stands in the facts; the plan has its copy all the same."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    plan = build()
    assert "cannot be written" in plan.facts["timings_kept"]
    assert (plan.path / "timing.cache").stat().st_size > 0


# ---------------------------------------------------------------------------- failures


def test_running_out_of_memory_is_tried_again_with_less(build: Build, fake_trt: World) -> None:
    """Each attempt is recorded with its reason; the plan holds what succeeded."""
    fake_trt.out_of_memory_builds, fake_trt.out_of_memory_above_bytes = 9, GIB8 // 16
    plan = build()
    rungs = plan.facts["rungs"]
    assert [r["workspace_bytes"] for r in rungs] == [GIB8, GIB8, GIB8 // 4, GIB8 // 16]
    assert [r["outcome"] == "built" for r in rungs] == [False, False, False, True]
    assert "every kernel for a node was left out" in rungs[0]["outcome"]
    assert plan.facts["workspace_bytes"] == GIB8 // 16
    assert plan.facts["profiles"][0]["x"]["max"] == [4, 8]  # the room went first
    assert fake_trt.builds == 4


def test_lower_levels_and_no_timings_come_last(build: Build, fake_trt: World) -> None:
    """After the smaller workspaces; the facts say that no timings were used."""
    build()
    fake_trt.out_of_memory_builds = 5
    plan = build()
    assert [r["level"] for r in plan.facts["rungs"]] == [3, 3, 3, 3, 1, 0]
    assert plan.facts["level"] == 0
    assert plan.facts["timings_found"] is False
    *before, last, _ = begun(fake_trt)  # the last of all reads what is kept, to add to it
    assert all(before[1:])
    assert last == b""


def begun(fake_trt: World) -> list[bytes]:
    """The timings that each attempt was given, and those that were combined with them."""
    calls = fake_trt.called("IBuilderConfig.create_timing_cache")
    return [bytes(c["serialized_timing_cache"]) for c in calls]


def test_a_build_that_never_fits_is_told_with_all_that_was_tried(
    build: Build, fake_trt: World
) -> None:
    """The cause, TensorRT's own words, the threads, and what to do."""
    fake_trt.out_of_memory_builds = 99
    fake_trt.out_of_memory_says = "Error Code 2: OutOfMemory (no further information)"
    with pytest.raises(CandidateBroken) as caught:
        build()
    for part in ("after 6 attempts", "as asked:", "no room above", "a quarter of the workspace:", "without the timing",
                 "OutOfMemory (no further", "#2643", "workspace_bytes"):  # fmt: skip
        assert part in str(caught.value), part
    assert fake_trt.builds == 6


def test_the_workspace_is_fitted_to_what_is_free_at_each_attempt(
    build: Build, fake_trt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that something else took in between is not counted on; shared memory is halved."""
    amounts = iter([FREE_BYTES, FREE_BYTES // 2])
    monkeypatch.setattr(memory, "free", lambda: memory.Memory(next(amounts), True))
    fake_trt.out_of_memory_builds = 1
    plan = build(workspace_bytes=1 << 40, room=1)
    assert [r["workspace_bytes"] for r in plan.facts["rungs"]] == [5 << 30, (5 << 30) // 8]
    assert plan.facts["memory_shared"] is True


def test_other_failures_end_the_build_at_once(build: Build, fake_trt: World) -> None:
    """Less memory would not mend them; warnings of the failed build do not pass for its cause."""
    fake_trt.build_messages = (("WARNING", "Skipping tactic 1 due to insufficient memory"),)
    fake_trt.out_of_memory_builds, fake_trt.out_of_memory_says = 9, "Plugin not found, are the"
    with pytest.raises(CandidateBroken, match=r"after 1 attempt \(.*no plugin of that name"):
        build()
    assert fake_trt.builds == 1


def test_a_graph_that_has_no_meaning_above_its_requests_is_built_without_room(
    build: Build, fake_trt: World
) -> None:
    """A table of positions may end there: an error that is not known is tried without, once."""
    fake_trt.out_of_memory_builds, fake_trt.out_of_memory_says = 1, "Add: shapes are inconsistent"
    plan = build()
    assert [r["rung"] for r in plan.facts["rungs"]] == [
        "as asked", "no room above the requested shapes",
    ]  # fmt: skip
    assert plan.facts["profiles"][0]["x"]["max"] == [4, 8]
    fake_trt.out_of_memory_builds = 9
    with pytest.raises(CandidateBroken, match=r"after 2 attempts.*shapes are inconsistent"):
        build()


def test_all_of_the_parsers_errors_are_counted_and_the_first_is_told(
    build: Build, fake_trt: World
) -> None:
    """With node, operator and code; what is known of it follows."""
    one = {"desc": "shiftIsAllZeros(zeroPoint): Non-zero zero point", "code": "INVALID_NODE"}
    fake_trt.parse_errors = tuple(
        {**one, "node": i, "node_name": f"/q{i}", "node_operator": "QuantizeLinear"}
        for i in range(5)
    )
    with pytest.raises(CandidateBroken) as caught:
        build()
    for part in ("(opset 17) with 5 errors", "node 0 '/q0' (QuantizeLinear), INVALID_NODE: shift",
                 "and 2 more", "symmetrically", "#4698", "--recipe int8_static"):  # fmt: skip
        assert part in str(caught.value), part
    assert fake_trt.builds == 0


def test_warnings_are_kept(build: Build, fake_trt: World) -> None:
    """Layers that fell to another device say so in no other way."""
    said = "Layer '/a' (SHUFFLE): Unsupported on DLA. Switching this layer's device type to GPU."
    fake_trt.build_messages = (("WARNING", said), ("WARNING", said), ("INFO", "no"))
    assert build().facts["warnings"] == [said]


def test_a_builder_that_does_not_start_is_told_by_its_cause(
    build: Build, fake_trt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pybind11 raises a TypeError that says nothing; the log says why."""
    import tensorrt as trt

    def refuse(logger: Any) -> Any:
        logger.log(
            trt.ILogger.Severity.WARNING, "CUDA initialization failure with error: 35. Please"
        )
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Builder", refuse)
    with pytest.raises(CandidateBroken, match=r"does not start.*error: 35.*older than"):
        build()


# ---------------------------------------------------------------------------- machines


def test_building_for_another_gpu_is_refused(build: Build, fake_trt: World) -> None:
    """TensorRT builds for the GPU that it runs on; what can be done instead is told."""
    with pytest.raises(EnvironmentProblem, match=r"8\.7, this machine's NVIDIA H100.*accel finish"):
        build(target=targets.load("jetson-orin-nano"))
    assert fake_trt.calls == []


def test_a_target_that_is_this_machine_whatever_it_is_takes_its_gpu(build: Build) -> None:
    """As the portable graph of a release is built."""
    plan = build(target=Target("here", "this machine", ("tensorrt",), local=True))
    assert plan.facts["sm"] == "9.0"


@pytest.mark.parametrize(
    ("options", "other", "why"),
    [
        ({}, {"name": "Orin", "capability": "8.7"}, "compute capability 9.0"),
        ({}, {"name": "NVIDIA H200"}, "this machine has an NVIDIA H200"),
        ({}, {"driver": "12.4"}, "CUDA 12.4 at most"),
        ({"hardware_compatibility": "SAME_COMPUTE_CAPABILITY"}, {"capability": "8.9"}, "9.0"),
        ({"hardware_compatibility": "AMPERE_PLUS"}, {"capability": "7.5"}, "8.0 or newer"),
    ],
)
def test_loading_on_another_machine_is_refused(
    build: Build, machine: Any, options: Any, other: dict[str, str], why: str
) -> None:
    """Before anything of the plan is read; with the reason, the rebuild, and the portable graph."""
    plan = build(**options)
    (plan.path / plan.facts["engine_file"]).unlink()
    machine(**other)
    with pytest.raises(EnvironmentProblem) as caught:
        ENGINE.load(plan)
    for part in (why, "accel build", "accel finish", "portable=True"):
        assert part in str(caught.value)


def test_compatible_plans_are_built_by_the_flags_names(build: Build, fake_trt: World) -> None:
    """Their levels are looked up, and recorded for whoever loads them."""
    plan = build(version_compatible=True, hardware_compatibility="AMPERE_PLUS")
    assert plan.facts["compatible"] == {"version": True, "hardware": "AMPERE_PLUS"}
    assert [c["flag"].name for c in fake_trt.called("IBuilderConfig.set_flag")] == [
        "VERSION_COMPATIBLE"
    ]
    assert fake_trt.called("IBuilderConfig.plugins_to_serialize")


def test_a_probe_needs_tensorrt_and_a_gpu(
    fake_trt: World, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version and GPU where both are there; else the reason and what mends it."""
    found = ENGINE.probe()
    assert (found.usable, found.version) == (True, fake_trt.version)
    assert found.facts["compute_capability"] == "9.0"
    monkeypatch.setattr(identity.machines, "gpus", tuple)
    assert not ENGINE.probe().usable
    assert "nvidia-smi" in ENGINE.probe().fix


@pytest.mark.parametrize("version", ["10.2.0.19", "12.0.0.1"])
def test_versions_that_this_was_not_written_for_are_refused(
    fake_trt: World, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bounds, and the line that installs one between them."""
    import tensorrt as trt

    monkeypatch.setattr(trt, "__version__", version)
    with pytest.raises(MissingExtra, match=rf"{version} is installed.*'tensorrt>=10\.3,<12'"):
        names.library()


def test_a_member_that_a_version_lacks_is_told(fake_trt: World) -> None:
    """By its name, with those that there are."""
    import tensorrt as trt

    assert names.member(trt.BuilderFlag, "TF32").name == "TF32"
    with pytest.raises(CandidateBroken, match=r"BuilderFlag has no NONSUCH; it has .*TF32"):
        names.member(trt.BuilderFlag, "NONSUCH")


# ---------------------------------------------------------------------------- options


def test_a_stripped_plan_has_its_graph_beside_it(build: Build, fake_trt: World) -> None:
    """As it was parsed; the engine holds no weights."""
    import tensorrt as trt

    plan = build(strip_plan=True)
    assert (plan.facts["stripped"], plan.facts["onnx"]) == (True, "model.onnx")
    (parsed,) = fake_trt.called("OnnxParser.parse_from_file")
    assert Path(parsed["model"]) == plan.path / "model.onnx"
    flags = {c["flag"] for c in fake_trt.called("IBuilderConfig.set_flag")}
    assert flags == {trt.BuilderFlag.STRIP_PLAN, trt.BuilderFlag.REFIT_IDENTICAL}
    assert plan.facts["digests"]["onnx"] == store.digest_file(plan.path / "model.onnx")


def test_a_dla_core_that_tensorrt_does_not_see_is_refused(build: Build, fake_trt: World) -> None:
    """The target has one, but this TensorRT none: nothing falls to the GPU in silence."""
    with pytest.raises(CandidateBroken, match=rf"TensorRT {fake_trt.version} sees 0 here"):
        build(target=WITH_DLA, dla=0)
    assert fake_trt.builds == 0


def test_layers_that_a_dla_core_cannot_take_are_named(build: Build, fake_trt: World) -> None:
    """With the share that it takes; each shape has a profile of its own, since it takes no range."""
    fake_trt.dla_cores = 1
    plan = build(target=WITH_DLA, dla=0)
    assert plan.facts["dla"]["layers"] == 3
    assert plan.facts["dla"]["coverage"] == pytest.approx(1 / 3)
    assert len(plan.facts["dla"]["fell_to_gpu"]) == 2
    assert [p["x"]["min"] for p in plan.facts["profiles"]] == [[1, 8], [4, 8]]
    flags = {c["flag"].name for c in fake_trt.called("IBuilderConfig.set_flag")}
    assert flags == {"GPU_FALLBACK"}


def test_rebuilds_are_compared(build: Build, fake_trt: World) -> None:
    """Equal bytes and equal layers, with what that does not promise; or not equal."""
    same = build(rebuilds=2).facts["rebuilds"]
    assert (same["count"], same["engines_equal"], same["layers_equal"]) == (2, True, True)
    assert len(same["engine_digests"]) == 3
    assert "#4798" in same["note"]
    first, second, third = begun(fake_trt)  # there were none yet to add to
    assert not first
    assert second == third != b""
    fake_trt.nondeterministic = True
    other = build(rebuilds=1).facts["rebuilds"]
    assert (other["engines_equal"], other["layers_equal"]) == (False, True)
    assert build().facts["rebuilds"] is None


# ---------------------------------------------------------------------------- kernels


def test_kernels_become_plugins(build: Build, fake_trt: World, tmp_path: Path) -> None:
    """Registered before the graph is parsed, and counted."""
    plugins._register.cache_clear()
    path = test_parts.kernel_graph(tmp_path / "k.onnx")
    plan = build(graph.describe(path), kernel_requests())
    assert plan.facts["plugins"] == {"residual_layernorm": 1}
    assert plan.facts["refused"] == []
    assert ("ResidualLayerNorm", "accel") in fake_trt.creators
    plugins._register.cache_clear()


@pytest.mark.parametrize(("level", "capability"), [("NONE", "9.0"), ("AMPERE_PLUS", "8.0")])
def test_kernels_of_a_compatible_plan_run_on_all_its_gpus(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, capability: str
) -> None:
    """PTX for one GPU runs on it and on newer ones: it is compiled for the oldest."""
    asked: list[Target] = []

    def register(target: Target, kernels: Sequence[str]) -> dict[str, None]:
        asked.append(target)
        return dict.fromkeys(kernels)

    monkeypatch.setattr(plugins, "register", register)
    path = test_parts.kernel_graph(tmp_path / "k.onnx")
    build(graph.describe(path), kernel_requests(), hardware_compatibility=level)
    assert [t.compute_capability for t in asked] == [capability]


def test_kernels_that_are_refused_leave_their_bodies(
    build: Build, fake_trt: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is built all the same, and says why; a stripped one has the graph that was parsed."""
    import tensorrt as trt

    monkeypatch.setattr(trt, "__version__", "10.9.0.34")
    path = test_parts.kernel_graph(tmp_path / "k.onnx")
    plan = build(graph.describe(path), kernel_requests())
    assert plan.facts["plugins"] == {}
    (reason,) = plan.facts["refused"]
    assert "10.13 or newer" in reason
    (parsed,) = fake_trt.called("OnnxParser.parse")
    assert parsed["path"] == str(path)
    bare = build(graph.describe(path), kernel_requests(), strip_plan=True)
    assert {n.domain for n in onnx.load(bare.path / "model.onnx").graph.node} == {""}


def kernel_requests() -> list[Request]:
    """Of four rows."""
    rows = {k: np.ones((4, 8), np.float32) for k in "xr"}
    return [Request("g", 1.0, {**rows, **{k: np.ones(8, np.float32) for k in "gb"}})]


def test_an_int8_graph_shows_in_the_census(build: Build, tmp_path: Path) -> None:
    """What the graph asks for is counted by type."""
    scale = [numpy_helper.from_array(np.array(0.1, np.float32), "s")]
    zero = [numpy_helper.from_array(np.array(0, np.int8), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy"]
    graph_ = helper.make_graph(nodes, "qdq", ports[:1], ports[1:], scale + zero)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph_, opset_imports=opsets, ir_version=8), tmp_path / "q.onnx")
    plan = build(graph.describe(tmp_path / "q.onnx"), [])
    assert plan.facts["precision"] == {"int8": 1, "float32": 1}
    assert plan.facts["profiles"] == [{"x": {"min": [4], "opt": [4], "max": [4]}}]


def test_an_engine_that_does_not_load_where_it_was_built_is_refused(
    build: Build, fake_trt: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build loads what it built, to read its layers."""
    real = builds.attempt

    def spoilt(*words: Any) -> Any:
        content, said = real(*words)
        return content and content[:40], said

    monkeypatch.setattr(builds, "attempt", spoilt)
    with pytest.raises(CandidateBroken, match="does not load"):
        build()


def test_ranges_that_contradict_each_other_are_refused(build: Build, fake_trt: World) -> None:
    """The bindings raise an error of their own there."""
    import tensorrt as trt

    builder = trt.Builder(trt.Logger())
    work: Any = SimpleNamespace(parsed=SimpleNamespace(builder=builder))
    ranges = {"x": {"min": [2, 8], "opt": [1, 8], "max": [4, 8]}}
    with pytest.raises(CandidateBroken, match="refuses an optimization profile"):
        builds._add_profile(work, builder.create_builder_config(), ranges)
