"""Decisions of the search: pure, so every case is written out."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from accel import catalog, refining, search
from accel.constraints import Constraints, validate
from accel.errors import UsageError
from accel.naming import graph_key
from accel.values import Candidate, Measurement, Model, Plan, QuantStyle, Score, Target

TARGET = Target("here", "", ("onnxruntime_cpu", "openvino"), local=True)
MODEL = Model(Path("m.onnx"), "d", (), ())


def _built(name: str, screen_s: float, portable: bool = True, **more: object) -> Candidate:
    plan = Plan("openvino", MODEL, Path(name), portable=portable)
    row = Candidate(name, "onnx", "fp32", "openvino", status="built", plan=plan, screen_s=screen_s)
    return dataclasses.replace(row, **more)  # type: ignore[arg-type]


def _measured(name: str, time_s: float, **more: object) -> Candidate:
    run = Measurement(name, Path("s"), ("g",), (1.0,), 0, 0, 100, 1, 0)
    row = _built(name, time_s, status="measured", objective_s=time_s, measurement=run)
    return dataclasses.replace(row, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        (Constraints(objective="energy"), "no energy counter"),
        (Constraints(objective="speed"), "'speed' is unknown. Allowed: latency, tail"),
        (Constraints(max_drop=-1), "max_drop must be a number of at least 0, not -1"),
        (Constraints(max_latency_s=float("nan")), "max_latency_s must be a number"),
        (Constraints(engines=("reference",)), "does not have engine 'reference'"),
    ],
)
def test_impossible_constraints_are_refused(constraints: Constraints, said: str) -> None:
    """A wrong name or number is said before anything runs."""
    with pytest.raises(UsageError, match=said):
        validate(constraints, TARGET)


def test_a_relative_budget_follows_the_baseline() -> None:
    """0.5 % of 80 is 0.4; without a demand everything is allowed."""
    assert Constraints(max_drop=0.5, max_drop_relative=True).budget(80) == pytest.approx(0.4)
    assert Constraints(max_drop=0.5).budget(80) == 0.5
    assert Constraints().budget(80) == float("inf")


def test_what_is_three_times_slower_is_pruned_with_its_ratio() -> None:
    """Only a wide margin prunes, and the row says by how much; size does not look at time."""
    tried = [_built("a", 1.0), _built("b", 2.9), _built("c", 3.5)]
    rows = search.prune(tried, Constraints())
    assert [r.status for r in rows] == ["built", "built", "pruned"]
    assert rows[2].reason == "3.5x the quickest one's time in screening"
    assert search.prune(tried, Constraints(objective="size")) == tuple(tried)


def test_what_cannot_win_neither_prunes_nor_comes_to_the_final() -> None:
    """A recipe not asked for, or far too much memory, keeps nobody else out."""
    rows = [
        _built("other", 1.0, recipe="bf16"),
        _built("large", 1.1, peak_memory_bytes=900),
        _built("meets it", 3.6, peak_memory_bytes=104),
        _built("slower", 9.0),
    ]
    demands = Constraints(recipes=("fp32",), max_memory_bytes=100)
    assert search.prune(rows, demands)[2].status == "built"
    assert [c.name for c in search.finalists(rows, demands)] == ["meets it"]
    assert search.finalists(rows, Constraints(max_latency_s=0.1)) == ()


def _twice() -> list[Candidate]:
    """Two graphs, each with two settings."""
    return [
        Candidate(f"{recipe} {n}", "onnx", recipe, "openvino", options={"n": n})
        for recipe in ("fp32", "int8_static")
        for n in (1, 2)
    ]


def test_settings_are_refined_only_where_it_can_pay() -> None:
    """The first settings of each graph are tried; the rest follow where those did well."""
    first, later = refining.waves(_twice())
    assert [c.name for c in first] == ["fp32 1", "int8_static 1"]
    tried = [
        dataclasses.replace(c, status="built", screen_s=s)
        for c, s in zip(first, (5.0, 1.0), strict=True)
    ]
    worth, spared = refining.refine(tried, later)
    assert [c.name for c in worth] == ["int8_static 2"]
    assert spared[0].status == "pruned"
    assert spared[0].reason.startswith("5.0x")


def test_where_the_first_settings_alone_failed_the_others_are_tried() -> None:
    """A graph without an open axis has no bucket, and runs as it is; one that could not be made has
    nothing to run."""
    first, later = refining.waves(_twice())
    tried = [
        dataclasses.replace(c, status="failed", size_bytes=size)
        for c, size in zip(first, (5, 0), strict=True)
    ]
    worth, spared = refining.refine(tried, later)
    assert [c.name for c in worth] == ["fp32 2"]
    assert [c.reason for c in spared] == ["its graph could not be made with its first settings"]


def test_what_may_not_win_spares_nobody_its_other_settings() -> None:
    """fp32 is always tried, and is no rival where a recipe was asked for."""
    first, later = refining.waves(_twice())
    tried = [
        dataclasses.replace(c, status="built", screen_s=s)
        for c, s in zip(first, (1.0, 5.0), strict=True)
    ]
    worth, _ = refining.refine(tried, later, Constraints(recipes=("int8_static",)))
    assert "int8_static 2" in [c.name for c in worth]
    others = [
        dataclasses.replace(tried[0], name=f"fp32 v{v}", recipe_options={"v": v})
        for v in range(refining.REFINED)
    ]
    worth, _ = refining.refine([*others, tried[1]], later, Constraints(recipes=("int8_static",)))
    assert [c.name for c in worth] == ["int8_static 2"]


def test_of_many_near_graphs_the_quickest_are_refined() -> None:
    """Of each engine so many; the others are told why not."""
    plans = [
        Candidate(f"{engine} {v} {n}", "onnx", "int8_mixed", engine, {"v": v}, {"n": n})
        for engine in ("openvino", "onnxruntime_cpu")
        for v in range(refining.REFINED + 2)
        for n in (1, 2)
    ]
    first, later = refining.waves(plans)
    tried = [
        dataclasses.replace(c, status="built", screen_s=1 + i / 100) for i, c in enumerate(first)
    ]
    worth, spared = refining.refine(tried, later)
    assert len(worth) == 2 * refining.REFINED
    assert {c.engine for c in worth} == {"openvino", "onnxruntime_cpu"}
    assert all("were quicker" in c.reason for c in spared)


def test_the_best_portable_one_is_always_in_the_final() -> None:
    """Even where hinted plans are quicker, a portable graph is measured beside them."""
    rows = [_built(f"h{i}", 1 + i / 100, portable=False) for i in range(6)] + [_built("p", 2.0)]
    names = [c.name for c in search.finalists(rows, Constraints())]
    assert names == ["h0", "h1", "h2", "p"]
    run = Measurement("", Path("s"), ("g",), (1.0,), 0, 0, 100, 1, 0)
    after = [
        dataclasses.replace(r, status="measured", measurement=run) if r.name in names else r
        for r in rows
    ]
    left = search.leave(after, Constraints())
    assert [r.name for r in left if r.status == "pruned"] == ["h3", "h4", "h5"]
    assert left[3].reason == "not in the final: 1.0x the quickest one's time in screening"


def test_only_what_screening_cannot_tell_apart_runs_a_heat() -> None:
    """More near ones than a final takes, and no others; none where size decides."""
    near = [_built(f"n{i}", 1 + i / 10) for i in range(5)]
    rows = [*near, _built("far", 1.7), _built("refused", 0.5, status="refused")]
    assert search.contenders(rows, Constraints()) == tuple(near)
    assert search.contenders(near[:3], Constraints()) == ()
    assert search.contenders(rows, Constraints(objective="size")) == ()
    many = [_built(f"m{i:02}", 1 + i / 100) for i in range(20)]
    assert len(search.contenders(many, Constraints())) == search.CONTENDERS
    assert search.contenders([], Constraints()) == ()


def test_a_drop_over_the_budget_is_refused() -> None:
    """Accuracy is a constraint: the row is out, and says by how much."""
    score = Score("acc", "pt", 80, Path("r"))
    row = search.hold(_built("a", 1.0, score=score, drop=0.61), 0.5)
    assert (row.status, row.reason) == ("refused", "drops 0.61 pt, allowed 0.5")
    assert search.hold(_built("a", 1.0, score=score, drop=0.5), 0.5).status == "built"


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        (Constraints(max_latency_s=0.5), "1000.00 ms, allowed 500 ms"),
        (Constraints(max_memory_bytes=50), "1 MB of memory, allowed 0 MB"),
        (Constraints(min_speedup=3.0), "2.00x faster than fp32, demanded 3x"),
        (Constraints(recipes=("bf16",)), "measured for comparison only: --recipe bf16 was asked"),
        (Constraints(), ""),
    ],
)
def test_measured_constraints_refuse_with_the_figure(constraints: Constraints, said: str) -> None:
    """Latency, memory and speed-up are held against the measurement."""
    measured = _measured("a", 1.0, peak_memory_bytes=1_000_000)
    row = search.constrain(measured, constraints, fp32_s=2.0)
    assert row.reason == said


def test_a_speed_up_that_nobody_measured_is_not_granted() -> None:
    """fp32's process may die in the final."""
    row = search.constrain(_measured("a", 1.0), Constraints(min_speedup=3.0), None)
    assert (row.status, row.reason) == (
        "refused",
        "fp32 in ONNX Runtime was not timed: 3x cannot be told",
    )


def test_ties_go_to_the_portable_then_the_smaller() -> None:
    """Inside the noise the better engineered one wins; outside it the faster one."""
    fast = _measured("fast", 1.00, size_bytes=5)
    fast = dataclasses.replace(fast, plan=dataclasses.replace(fast.plan, portable=False))  # type: ignore[type-var]
    big, small = _measured("big", 1.01, size_bytes=9), _measured("small", 1.02, size_bytes=3)
    slow = _measured("slow", 2.0, size_bytes=1)

    def tie(a: Candidate, b: Candidate) -> bool:
        return abs((a.objective_s or 0) - (b.objective_s or 0)) < 0.1

    ranked = search.rank([slow, big, fast, small], lambda c: c.objective_s or 0.0, tie)
    assert [c.name for c in ranked] == ["small", "big", "fast", "slow"]


def test_the_nearest_say_which_limit_they_were_over() -> None:
    """What kept its accuracy and never came to a final has no reason of its own yet."""
    rows = [dataclasses.replace(_built("big", 1e-3, drop=0.0), peak_memory_bytes=70 * 10**6)]
    text = search.nearest(rows, Constraints(max_memory_bytes=10**6, max_latency_s=1.0))
    assert "big: 70 MB of memory, allowed 1 MB, in the screening" in text
    assert "1.00 ms, allowed 0.5 ms, in" in search.nearest(rows, Constraints(max_latency_s=5e-4))


def test_the_nearest_ones_are_named_when_nothing_fits() -> None:
    """The error lists the smallest drops first and what to type next."""
    rows = [_built("far", 1, drop=6.0, reason="r6"), _built("near", 1, drop=0.7, reason="r0")]
    text = search.nearest(rows, Constraints())
    assert text.index("near: r0") < text.index("far: r6")
    assert "--max-drop" in text


def _engine_of_modules() -> SimpleNamespace:
    """A fake engine that runs a workload's module, with two settings."""
    settings = tuple({"threads": 1, "workload": "", "compiler": c} for c in ("ahead", "later"))
    return SimpleNamespace(
        recipes=lambda *_: {"fp32": None},
        options=lambda *_: settings,
        style=lambda *_: None,
    )


def test_a_module_is_one_candidate_a_setting_whatever_the_graphs_are() -> None:
    """There is no root to choose, no variant of a recipe, and no path in the name."""
    rows = search.plan(
        {"fake": _engine_of_modules()}, ("torch_export", "torchscript"), TARGET, (), {}, ("fp32",)
    )
    assert [(r.name, r.root, r.recipe_options) for r in rows] == [
        ("fake fp32 ahead @module", "module", {}),
        ("fake fp32 later @module", "module", {}),
    ]


def test_an_engine_of_modules_is_refused_where_the_workload_is_a_graph() -> None:
    """One row, with the reason."""
    rows = search.plan({"fake": _engine_of_modules()}, ("onnx",), TARGET, (), {}, ("fp32",))
    assert [(r.name, r.status) for r in rows] == [("fake fp32", "refused")]
    assert rows[0].reason == "it runs a workload's own torch.nn.Module; this workload is an .onnx"


def _engine_of_graphs() -> SimpleNamespace:
    """A fake engine that knows every recipe but one."""
    known = dict.fromkeys(("fp32", "int8_static", "int8_dynamic"))
    style = lambda *_: QuantStyle(True, False, True, False, True)  # noqa: E731
    return SimpleNamespace(recipes=lambda *_: known, options=lambda *_: ({},), style=style)


def _planned(recipes: tuple[str, ...], wanted: tuple[str, ...]) -> list[tuple[str, str, str]]:
    target = dataclasses.replace(TARGET, recipes=recipes)
    rows = search.plan({"fake": _engine_of_graphs()}, ("onnx",), target, (), {}, wanted)
    return list(dict.fromkeys((r.recipe, r.status, r.reason) for r in rows))


@pytest.mark.parametrize(
    ("named", "tried"),
    [
        (("int8_static", "fp32", "int8_dynamic"), ["int8_static", "fp32", "int8_dynamic"]),
        (("int8_dynamic",), ["int8_dynamic", "fp32"]),
        (("bf16", "fp32"), ["bf16", "fp32"]),
        ((), list(catalog.names("recipes"))),
    ],
)
def test_a_targets_recipes_are_tried_in_its_order(named: tuple[str, ...], tried: list[str]) -> None:
    """Those and fp32, which is always in; a target that names none leaves it to the engines."""
    assert [recipe for recipe, *_ in _planned(named, ())] == tried


def test_a_recipe_that_the_target_leaves_out_is_refused_where_it_was_asked_for() -> None:
    """With the reason, whatever the engine thinks of it; unasked it is no row."""
    rows = _planned(("int8_static",), ("int8_dynamic",))
    assert rows == [
        ("fp32", "planned", ""),
        ("int8_dynamic", "refused", "not in the profile's recipes"),
    ]
    assert _planned(("bf16",), ("bf16",)) == [
        ("bf16", "refused", "this engine does not know the recipe"),
        ("fp32", "planned", ""),
    ]


def _engine_with_settings(**more: object) -> SimpleNamespace:
    """A fake engine that runs graphs, with two settings."""
    return SimpleNamespace(
        recipes=lambda *_: {"fp32": None},
        options=lambda *_: ({"threads": 1}, {"threads": 1, "spin": True}),
        style=lambda *_: QuantStyle(True, False, True, False, True),
        **more,
    )


def test_an_engine_that_takes_kernels_has_each_graph_with_and_without_them() -> None:
    """Both are graphs of their own: each is screened before its other settings are."""
    engines = {"fake": _engine_with_settings(KERNELS=True)}
    rows = search.plan(engines, ("onnx",), TARGET, (), {}, ("fp32",))
    plain = [r for r in rows if not r.kernels and not r.recipe_options.get("fuse")]
    swapped = [r for r in rows if r.kernels and not r.recipe_options.get("fuse")]
    assert [r.name for r in plain] == ["fake fp32 @onnx", "fake fp32 spin @onnx"]
    assert [r.name for r in swapped] == ["fake fp32 kernels @onnx", "fake fp32 spin kernels @onnx"]
    assert {r.kernels for r in swapped} == {catalog.names("kernels")}
    first, later = refining.waves((*plain, *swapped))
    assert [r.name for r in first] == ["fake fp32 @onnx", "fake fp32 kernels @onnx"]
    fitting = dataclasses.replace(first[1], kernels=("nms",), status="built", screen_s=1.0)
    worth, _ = refining.refine([fitting], later)
    assert [r.name for r in worth] == ["fake fp32 spin kernels @onnx"]
    without = search.plan({"fake": _engine_with_settings()}, ("onnx",), TARGET, (), {}, ("fp32",))
    assert not any(r.kernels for r in without)


def test_a_graph_is_named_by_what_decides_it() -> None:
    """Settings of the engine do not; the style does for int8, as Q/DQ is written in it, and for bf16,
    which is OpenVINO's hint or an engine's types."""
    style = QuantStyle(True, False, True, False, True)
    other = dataclasses.replace(style, reduce_range=True)
    row = Candidate("a", "onnx", "int8_static", "openvino", {"method": "nncf"}, {"threads": 1})
    key = graph_key(row, style)
    assert key == graph_key(dataclasses.replace(row, name="b", options={"threads": 2}), style)
    assert key != graph_key(row, other)
    changed = (
        {"root": "torchscript"}, {"recipe": "int8_dynamic"}, {"engine": "tensorrt"},
        {"recipe_options": {}}, {"kernels": ("nms",)},
    )  # fmt: skip
    keys = {graph_key(dataclasses.replace(row, **c), style) for c in changed}  # type: ignore[arg-type]
    assert len(keys | {key}) == 1 + len(changed)
    fp32, bf16 = (dataclasses.replace(row, recipe=r) for r in ("fp32", "bf16"))
    assert graph_key(fp32, style) == graph_key(fp32, other)
    assert graph_key(bf16, style) != graph_key(bf16, other)
