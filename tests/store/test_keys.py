"""What the key of each step hangs on: everything that its result depends on, and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from accel import artefacts, finals, floors, heats, itself, mixing, store, trials, unmeasured
from accel.cuda import ledger, packed, toolchain
from accel.job import Job
from accel.measure import ceiling, here
from accel.protocols import Calibration, Quantized
from accel.steps import build as build_step
from accel.store import Step
from accel.trials import OutputsFile
from accel.values import (
    Candidate,
    Model,
    Options,
    Plan,
    Port,
    QuantStyle,
    Request,
    Target,
    Workload,
)

ROOT = Path(__file__).parents[2]
X = (Port("x", "float32", ("batch", 4)),)
MODEL = Model(Path("model.onnx"), "digest of a graph", X, X, ("exported",))
SWAPPED = dataclasses.replace(MODEL, trail=("exported", "swap: bias_gelu"))
PLAN = Plan("onnxruntime_cpu", MODEL, Path("plan"), {"threads": 1, "deep": {"a": [1, 2.5]}}, {}, {"onnxruntime": "1"})  # fmt: skip
YARDSTICK = dataclasses.replace(PLAN, engine="reference")
STYLE = QuantStyle(True, False, True, False, True, operators=("MatMul",))
TARGET = Target("here", "this machine", ("onnxruntime_cpu",), local=True)
CANDIDATE = Candidate("c", "onnx", "int8_static", "onnxruntime_cpu", {"method": "mse", "deep": [{"a": 1}]})  # fmt: skip
FEED = {"x": np.ones((1, 4), np.float32)}
DIGESTS = dict.fromkeys(("source", "weights", "example", "requests", "calibration", "search", "certify"), "d")  # fmt: skip


def job(work: Path) -> Job:
    problem = Workload("w.py", "w", "d", model=lambda: None)
    requests = (Request("all", 1.0, FEED),)
    feeds = work / "calibration.npz"
    return Job(problem, TARGET, requests, feeds, DIGESTS, {"torch": "1", "numpy": "2"}, "class", work)  # fmt: skip


def engine(style: QuantStyle = STYLE) -> Any:
    return SimpleNamespace(style=lambda _: style)


def quantize(j: Job, candidate: Candidate = CANDIDATE, style: QuantStyle = STYLE) -> Any:
    return artefacts.quantize(j, MODEL, candidate, engine(style))


def measure(j: Job, rivals: tuple[str, ...] = ("a",)) -> Any:
    return finals.measure(j, {"a": PLAN, "b": YARDSTICK}, rivals, lambda _: None)


def regions(j: Job, minutes: float = 5.0) -> Any:
    base = dataclasses.replace(CANDIDATE, plan=PLAN)
    score: Any = None
    bench = mixing.Bench(
        j, {}, engine(), base, score, YARDSTICK, 1.0, 0.0, lambda _: None, minutes=minutes
    )
    return mixing._groups(bench, (), None, (), 0.0)


STEPS: Mapping[str, Callable[[Job], Any]] = {
    "export": lambda j: artefacts.export(j, "torch_export"),
    "calibrate": lambda j: artefacts.calibrate(j, MODEL),
    "quantize": quantize,
    "swap": lambda j: artefacts.swap(j, MODEL, ("bias_gelu",)),
    "keep": lambda j: artefacts.keep(j, Quantized(MODEL, {})),
    "build": lambda j: artefacts.build(j, MODEL, "onnxruntime_cpu", PLAN.options),
    "build of a module": lambda j: artefacts.build(j, MODEL, "torch_inductor", {"workload": ""}),
    "outputs": lambda j: trials.outputs(j, PLAN, [FEED]),
    "check": lambda j: trials.check(j, PLAN, YARDSTICK),
    "screen": lambda j: trials.screen(j, PLAN),
    "evaluate": lambda j: trials.score(j, PLAN, "search", YARDSTICK),
    "evaluate certify": lambda j: trials.score(j, PLAN, "certify", YARDSTICK),
    "advise": lambda j: unmeasured.advice(j, MODEL, YARDSTICK),
    "heat": lambda j: heats.timed(j, "heat", {"a": PLAN}, {}),
    "measure": measure,
    "regions": regions,
    "demand": lambda j: floors.demand(j, PLAN, "float32"),
    "ceiling": floors.ceilings,
}
ASKED = {"requests", "machine", "target"}  # of whatever runs a plan
HANGS_ON: Mapping[str, set[str]] = {
    "export": {"source", "weights", "example"},
    "calibrate": {"source", "calibration", "sizes"},
    "quantize": {"calibration"},
    "swap": set(),
    "keep": set(),
    "build": ASKED,
    "build of a module": {*ASKED, "source", "weights", "place"},
    "outputs": ASKED,
    "check": ASKED,
    "screen": ASKED,
    "evaluate": {*ASKED, "source", "search"},
    "evaluate certify": {*ASKED, "source", "certify"},
    "advise": ASKED,
    "heat": {*ASKED, "seed"},
    "measure": {*ASKED, "seed", "epochs"},
    "regions": ASKED,
    "demand": {"requests"},
    "ceiling": {"machine", "threads"},
}


class Asked(Exception):
    """Ends a step where its key is known."""


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """named(verb, call, job) -> the name under which the step would be kept; nothing is run."""
    monkeypatch.setattr(ceiling, "wanted", lambda _: True)
    earlier = {
        "outputs": OutputsFile(tmp_path),
        "calibrate": Calibration(tmp_path, 1, 1, True),
        "build": YARDSTICK,
    }

    def find(verb: str, call: Callable[[Job], Any], given: Job | None = None) -> str:
        def run(root: Path, seen: str, key: Mapping[str, Any], *_: Any) -> Step[Any]:
            if seen != verb.partition(" ")[0]:
                return Step(earlier[seen], root, True, 0.0)
            raise Asked(store.name({"verb": seen, "accel": itself.digest(), **key}))

        monkeypatch.setattr(store, "run", run)
        with pytest.raises(Asked) as found:
            call(given or job(tmp_path))
        return str(found.value)

    return find


def changes(given: Job) -> Iterator[tuple[str, str, Job]]:
    """(what a step may hang on, what was changed, the changed job)."""
    for name in DIGESTS:
        yield name, name, dataclasses.replace(given, digests={**DIGESTS, name: "other"})
    sized = {"x": np.ones((2, 4), np.float32)}
    yield "sizes", "sizes", dataclasses.replace(given, requests=(Request("all", 1.0, sized),))
    yield "machine", "machine", dataclasses.replace(given, machine_class="other")
    yield "seed", "seed", dataclasses.replace(given, seed=1)
    yield "epochs", "epochs", dataclasses.replace(given, epochs=5)
    moved = dataclasses.replace(given.workload, source="other.py")
    yield "place", "source's place", dataclasses.replace(given, workload=moved)
    for name in given.versions:
        versions = {**given.versions, name: "other"}
        yield "versions", f"version of {name}", dataclasses.replace(given, versions=versions)
    added = {**given.versions, "new": "1"}
    yield "versions", "another library", dataclasses.replace(given, versions=added)


@pytest.mark.parametrize("verb", STEPS)
def test_a_step_is_another_where_anything_that_it_hangs_on_is(
    verb: str, named: Callable[..., str], tmp_path: Path
) -> None:
    """Digests of data and code, the machine, the seed, each library: those and no others change its key."""
    before, counts = named(verb, STEPS[verb]), [0, 0]
    for fact, what, changed in changes(job(tmp_path)):
        wanted = fact == "versions" or fact in HANGS_ON[verb]
        assert (named(verb, STEPS[verb], changed) != before) == wanted, what
        counts[wanted] += 1
    print(f"{verb}: {counts[1]} changes make it another step, {counts[0]} do not")


GPU = here.Gpu("Tesla T4", "7.5", 1 << 34, 40, "12.6")


@pytest.mark.parametrize("verb", STEPS)
def test_what_is_built_or_runs_beside_a_gpu_hangs_on_its_driver(
    verb: str, named: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan is for one driver or newer ones, and a time is one driver's; without a GPU there is none."""
    found = []
    for gpus in ((), (GPU,), (dataclasses.replace(GPU, driver="13.0"),)):
        monkeypatch.setattr(here, "gpus", lambda gpus=gpus: gpus)
        found.append(named(verb, STEPS[verb]))
    assert len(set(found)) == (3 if HANGS_ON[verb] >= ASKED else 1)


OTHER_TARGET = {
    "threads": 3, "memory_bytes": 5, "architecture": "riscv64", "isa": ("avx2",), "gpu": "H200",
    "compute_capability": "9.0", "ptx_version": "8.5", "multiprocessors": 4, "dla_cores": 2,
    "sm": {"warps": 3}, "software": {"cuda": "13"}, "local": False, "peaks": {"bytes_per_s": 1.0},
    "power_modes_w": {"MAXN": 5.0}, "sources": ("a datasheet",), "recipes": ("fp16",),
    "engines": ("openvino",), "name": "there", "description": "another",
}  # fmt: skip


@pytest.mark.parametrize("verb", STEPS)
def test_a_step_that_runs_on_a_target_hangs_on_all_of_it_but_its_words(
    verb: str, named: Callable[..., str], tmp_path: Path
) -> None:
    """Each field of a target; a rate for floors, a recipe that is tried, or a description is none of it."""
    assert {f.name for f in dataclasses.fields(Target)} == OTHER_TARGET.keys()
    given = job(tmp_path)
    before = named(verb, STEPS[verb])
    for field, value in OTHER_TARGET.items():
        target = dataclasses.replace(TARGET, **{field: value})
        wanted = "target" in HANGS_ON[verb] and field not in artefacts.TOLD
        wanted |= field in HANGS_ON[verb]
        found = named(verb, STEPS[verb], dataclasses.replace(given, target=target))
        assert (found != before) == wanted, field


def test_no_engine_reads_what_no_key_holds() -> None:
    """Fields of a target that are not in the keys of builds: no engine's file mentions them, but for
    its name in messages."""
    for path in sorted((ROOT / "accel" / "engines").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "target":
                assert node.attr not in set(artefacts.TOLD) - {"name"}, path.name


def leaves(value: Any) -> Iterator[Any]:
    """A JSON value with one leaf changed, one key or item less, one more: each alone."""
    if isinstance(value, dict):
        yield {**value, "new": 1}
        for key, one in value.items():
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: other} for other in leaves(one))
    elif isinstance(value, (list, tuple)):
        yield [*value, None]
        if value:
            yield list(value[:-1])
        if len(value) > 1:
            yield list(reversed(value))
        for i, one in enumerate(value):
            yield from ([*value[:i], other, *value[i + 1 :]] for other in leaves(one))
    else:
        others = (None, True, False, 0, 1, -1, 0.5, "", "1", [], {}, math.inf, -math.inf, math.nan)
        yield from (one for one in others if repr(one) != repr(value))


def test_every_leaf_of_every_option_counts(named: Callable[..., str]) -> None:
    """A recipe's and an engine's options, at any depth: values of other types and of none, too."""
    recipes: dict[str, Any] = {}
    for options in (CANDIDATE.recipe_options, *leaves(dict(CANDIDATE.recipe_options))):
        candidate = dataclasses.replace(CANDIDATE, recipe_options=options)
        found = named("quantize", lambda j, c=candidate: quantize(j, c))
        assert repr(recipes.setdefault(found, options)) == repr(options)
    builds: dict[str, Any] = {}
    plans: dict[str, Any] = {}
    for options in (PLAN.options, *leaves(dict(PLAN.options))):
        found = named("build", lambda j, o=options: artefacts.build(j, MODEL, "onnxruntime_cpu", o))
        assert repr(builds.setdefault(found, options)) == repr(options)
        plan = dataclasses.replace(PLAN, options=options)
        found = named("screen", lambda j, p=plan: trials.screen(j, p))
        assert repr(plans.setdefault(found, options)) == repr(options)
    print(f"{len(recipes)} recipes, {len(builds)} builds, {len(plans)} plans, all apart")
    assert min(len(recipes), len(builds), len(plans)) > 30


STYLES = {
    "weight_signed": False, "activation_signed": True, "weight_symmetric": False,
    "activation_symmetric": True, "per_channel": False, "reduce_range": True,
    "operators": ("MatMul", "Conv"), "pairs": "inputs",
}  # fmt: skip


@pytest.mark.parametrize("recipe", ["int8_static", "int8_mixed", "int8_dynamic", "bf16", "fp32", "fp16"])  # fmt: skip
def test_every_field_of_a_style_counts_where_the_recipe_reads_it(
    recipe: str, named: Callable[..., str]
) -> None:
    """Signs, symmetry, channels, range, operators, pairs: of recipes that look at the style."""
    assert {f.name for f in dataclasses.fields(QuantStyle)} == STYLES.keys()
    candidate = dataclasses.replace(CANDIDATE, recipe=recipe)
    before = named("quantize", lambda j: quantize(j, candidate))
    for field, value in STYLES.items():
        style = dataclasses.replace(STYLE, **{field: value})
        found = named("quantize", lambda j, s=style: quantize(j, candidate, s))
        assert (found != before) == recipe.startswith(("int8", "bf16")), field


def test_a_recipe_that_is_named_to_read_no_style_reads_none() -> None:
    """Outside of `variants`, whose answers are options of their own, their files do not mention it."""
    for name in ("fp32", "fp16"):
        tree = ast.parse((ROOT / "accel" / "recipes" / f"{name}.py").read_bytes())
        [apply] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "apply"]
        assert not [n for n in ast.walk(apply) if isinstance(n, ast.Name) and n.id == "style"]


PLANS: Mapping[str, Mapping[str, Any]] = {
    "engine": {"engine": "openvino"},
    "graph": {"model": dataclasses.replace(MODEL, digest="another graph")},
    "versions": {"versions": {"onnxruntime": "2"}},
    "module": {"facts": {"module": "other code"}},
    "bytes": {"facts": {"built": "other bytes"}},
}
RUN = ("outputs", "check", "screen", "evaluate", "heat", "measure")


@pytest.mark.parametrize("part", PLANS)
def test_what_runs_a_plan_hangs_on_what_it_is(
    part: str, named: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its engine, its graph, its libraries' versions, the module that it is made of, what was compiled."""
    before = {verb: named(verb, STEPS[verb]) for verb in RUN}
    other = dataclasses.replace(PLAN, **PLANS[part])
    monkeypatch.setitem(globals(), "PLAN", other)
    assert all(named(verb, STEPS[verb]) != before[verb] for verb in RUN)


BUILDS: Mapping[
    str, tuple[str, Options, bool]
] = {  # what an engine loads, more facts, the same plan from other bytes
    "a folder": (".", {}, False),
    "a file": ("plan.bin", {}, False),
    "a file that is told": (".", {"digests": {"engine": "one", "timings": "t"}}, True),
    "the graph": ("plan.onnx", {}, True),
}


@pytest.mark.parametrize("what", BUILDS)
def test_a_build_of_other_bytes_is_another_plan(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that was pruned and made again is not the old one by its name: what was certified and
    timed was the other's. One of the same bytes is, wherever it lies."""
    place, facts, same = BUILDS[what]
    contents = iter((b"one", b"one", b"other"))

    def made(
        model: Model, engine: str, _: Any, options: Any, __: Any, out: Path, **___: Any
    ) -> Plan:
        (out / "plan.bin").write_bytes(content := next(contents))
        (out / "plan.onnx").write_bytes(content)
        return Plan(engine, model, (out / place).absolute(), options, facts)

    monkeypatch.setattr(build_step, "build", made)
    jobs = [job(tmp_path / work) for work in ("first", "second", "third")]
    built = [artefacts.build(j, MODEL, "tensorrt", {}) for j in (*jobs, jobs[0])]
    assert [b.reused for b in built] == [False, False, False, True]
    one, again, other, read = (trials.identity(b.value) for b in built)
    assert one == again == read
    assert (other == one) == same


def test_where_a_plan_lies_changes_nothing(
    named: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Other paths, another work folder, another story of the same graph, options in another order."""
    before = {verb: named(verb, call) for verb, call in STEPS.items()}
    model = dataclasses.replace(MODEL, path=Path("elsewhere.onnx"), trail=("told otherwise",))
    options = dict(reversed(PLAN.options.items()))
    other = dataclasses.replace(PLAN, path=Path("elsewhere"), model=model, options=options)
    monkeypatch.setitem(globals(), "PLAN", other)
    monkeypatch.setitem(globals(), "MODEL", model)
    moved = dataclasses.replace(job(tmp_path / "elsewhere"))
    for verb, call in STEPS.items():
        if verb != "keep":  # it copies the graph with its story
            assert named(verb, call, moved) == before[verb], verb


def test_hand_written_kernels_count_where_a_plan_holds_their_code(
    named: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited kernel is another swap, and other plans of graphs with kernels; the rest stays."""
    plain = {verb: named(verb, call) for verb, call in STEPS.items()}
    asked = {"kernels": True}
    ours = {
        "swapped": lambda j: artefacts.build(j, SWAPPED, "tensorrt", {}),
        "torch": lambda j: artefacts.build(j, MODEL, "torch_inductor", asked),
        "run": lambda j: trials.outputs(j, dataclasses.replace(PLAN, model=SWAPPED), [FEED]),
    }
    verbs = {"swapped": "build", "torch": "build", "run": "outputs"}
    before = {what: named(verbs[what], call) for what, call in ours.items()}
    monkeypatch.setattr(ledger, "source_digest", lambda _: "edited")
    artefacts._kernels.cache_clear()
    try:
        assert all(named(verbs[what], call) != before[what] for what, call in ours.items())
        for verb, call in STEPS.items():
            assert (named(verb, call) != plain[verb]) == (verb == "swap"), verb
    finally:
        artefacts._kernels.cache_clear()


def test_what_compiles_hand_written_kernels_counts_where_a_plan_holds_them(
    named: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another compiler makes other code of the same source; so does one whose work came along."""
    monkeypatch.delenv(packed.VARIABLE, raising=False)

    def keys() -> tuple[str, str]:
        artefacts._kernels.cache_clear()
        swapped = named("build", lambda j: artefacts.build(j, SWAPPED, "tensorrt", {}))
        return swapped, named("build", STEPS["build"])

    found = [keys()]
    versions = toolchain.known()
    assert {"numba", "llvmlite", "nvidia-nvvm", "ptxas"} <= versions.keys()
    with monkeypatch.context() as patch:
        patch.setattr(toolchain, "known", lambda: {**versions, "llvmlite": "other"})
        found.append(keys())
    monkeypatch.setenv(packed.VARIABLE, str(tmp_path))
    for text in ("one", "other"):
        (tmp_path / "manifest.json").write_text(text)
        found.append(keys())
    artefacts._kernels.cache_clear()
    assert [len(set(some)) for some in zip(*found, strict=True)] == [4, 1]


def test_what_a_final_compares_and_how_long_a_search_may_divide_count(
    named: Callable[..., str],
) -> None:
    """Who the rivals are decides when a final is settled; the minutes, how finely int8 is mended."""
    assert named("measure", measure) != named("measure", lambda j: measure(j, ("a", "b")))
    assert named("regions", regions) != named("regions", lambda j: regions(j, 6.0))


def test_accels_own_source_is_in_every_key(
    named: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed tool reuses nothing."""
    before = {verb: named(verb, call) for verb, call in STEPS.items()}
    monkeypatch.setattr(itself, "digest", lambda: "edited")
    assert all(named(verb, call) != before[verb] for verb, call in STEPS.items())


# module -> what it may import from above the steps, since no stored result hangs on it
HARMLESS = {
    "__init__.py": {"pipeline", "questions", "constraints"},  # public names, lazily
    "__main__.py": {"cli"},
    "artefacts.py": {"search", "naming"},  # words of options; `styled`, whose answer is in the key
    "finals.py": {"search", "constraints"},  # choose among values that were stored
    "mixing.py": {"search", "naming", "constraints", "explaining"},  # the same; an error that ranks
    "unmeasured.py": {"stages", "search", "naming", "constraints", "unfinished"},  # the same
}


def test_no_step_is_made_by_code_that_its_key_does_not_see() -> None:
    """What is left out of the digest of accel's source is imported by nothing that makes a step."""
    above = {name.removesuffix(".py") for name in itself.ABOVE_THE_STEPS}
    root = ROOT / "accel"
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.partition("/")[0] in itself.ABOVE_THE_STEPS:
            continue
        found = {part for module in imports(path) for part in module.split(".")[1:2]}
        assert found & above <= HARMLESS.get(name, set()), name
    for name in itself.ABOVE_THE_STEPS:
        text = (root / name).read_text() if name.endswith(".py") else ""
        assert "step(job," not in text, name
        assert "store.run(" not in text, name


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("accel"):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("accel."))


def test_keys_of_eight_digits_collide_and_ours_do_not(tmp_path: Path) -> None:
    """A counter-example: two of the first 80,000 options have the same eight hex digits of sha256."""
    one, other = {"k": 68_045}, {"k": 78_495}
    short = [store.digest_json({"verb": "export", **key})[:8] for key in (one, other)]
    made = [
        store.run(tmp_path, "export", key, Model, lambda f: Model(f, "d", (), ())).folder
        for key in (one, other)
    ]
    assert short[0] == short[1]
    assert made[0] != made[1]


def test_a_key_without_versions_takes_an_old_result_for_a_new_one(
    named: Callable[..., str], tmp_path: Path
) -> None:
    """A counter-example: without them, as others have it, an upgrade finds what the old library made."""
    old, new = ({"torch": "1", "onnxruntime": v} for v in ("1.20", "1.32"))
    for verb, call in STEPS.items():
        jobs = [dataclasses.replace(job(tmp_path), versions=v) for v in (old, new)]
        assert len({named(verb, call, j) for j in jobs}) == 2, verb
        bare = [dataclasses.replace(j, versions={}) for j in jobs]
        assert len({named(verb, call, j) for j in bare}) == 1, verb
