"""What every engine promises, tried on each that runs here."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import catalog, graph
from accel import target as targets
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.measure import machine
from accel.protocols import Engine, Probe
from accel.values import Feed, Model, Options, Plan, QuantStyle, Refusal

RTOL, ATOL = 1e-4, 1e-5  # fp32 sums in another order
Reference = Callable[[Model, Sequence[Feed], Path], list[Feed]]
Built = Callable[[Any, Options], Plan]


def _verbs(protocol: type) -> dict[str, list[str]]:
    """Functions that a protocol lists, with their parameters."""
    found = {n: f for n, f in vars(protocol).items() if callable(f) and not n.startswith("_")}
    return {n: list(inspect.signature(f).parameters)[1:] for n, f in found.items()}


def _same(found: Feed, wanted: Feed) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, RTOL, ATOL, err_msg=name)


@pytest.fixture
def sessions(engine: Any, case: Any, built: Built) -> Iterator[list[tuple[Plan, Any]]]:
    """The case built and loaded with every setting that the engine offers for fp32."""
    plans = [built(case, options) for options in engine.options(case)]
    loaded = [(plan, engine.module.load(plan)) for plan in plans]
    yield loaded
    for _, session in loaded:
        session.close()


def test_it_offers_what_the_protocol_lists(engine: Any) -> None:
    """The same functions with the same parameters, and BASELINE."""
    assert isinstance(engine.module.BASELINE, bool)
    for name, parameters in _verbs(Engine).items():
        function = getattr(engine.module, name)
        assert list(inspect.signature(function).parameters) == parameters, name


def test_the_probe_answers_and_raises_nothing(probed: tuple[str, Probe]) -> None:
    """Usable with its version, or not, with the reason and what mends it."""
    answer = probed[1]
    assert isinstance(answer, Probe)
    assert answer.version if answer.usable else (answer.reason and answer.fix)


def test_every_recipe_of_the_catalog_is_answered_for(engine: Any) -> None:
    """None, or a refusal with its reason; fp32 is never refused, and a style is given."""
    answers = engine.module.recipes(engine.target)
    assert set(answers) == set(catalog.names("recipes"))
    assert answers["fp32"] is None
    for refusal in filter(None, answers.values()):
        assert isinstance(refusal, Refusal)
        assert len(refusal.reason.split()) > 2, refusal
    assert isinstance(engine.module.style(engine.target), QuantStyle)


@pytest.mark.parametrize("profile", ["cpu-local", "cpu-single-core"])
def test_options_always_set_threads(engine: Any, case: Any, profile: str) -> None:
    """One setting at least, each plain JSON, with the target's threads (the yardstick has one)."""
    target = targets.load(profile)
    wanted = 1 if engine.name == "reference" else target.threads or machine.cores()
    for recipe, refusal in engine.module.recipes(target).items():
        if refusal is None:
            offered = engine.module.options(recipe, target, case.requests, case.padding)
            assert [o["threads"] for o in offered] == [wanted] * len(offered) != []
            assert json.loads(json.dumps(offered)) == [dict(o) for o in offered]


def test_it_gives_what_the_reference_gives(
    engine: Any, case: Any, sessions: list[tuple[Plan, Any]], reference: Reference, tmp_path: Path
) -> None:
    """Called or bound, on shapes that were requested and on others, with every setting."""
    wanted = reference(case.model, case.feeds, tmp_path / "reference")
    for plan, session in sessions:
        assert (plan.engine, plan.model.digest) == (engine.name, case.model.digest)
        assert plan.versions
        for feed, answer in zip(case.feeds, wanted, strict=True):
            _same(session(feed), answer)
            session.bind(feed)()


def test_outputs_belong_to_the_caller(case: Any, sessions: list[tuple[Plan, Any]]) -> None:
    """A later call changes no earlier result, and a changed result changes no later one."""
    feed = case.feeds[0]
    other = {k: v[..., ::-1] + np.ones((), v.dtype) * (k != "mask") for k, v in feed.items()}
    for _, session in sessions:
        first = session(feed)
        kept = {k: v.copy() for k, v in first.items()}
        session(other)
        _same(first, kept)
        for array in first.values():
            array[...] = 99
        _same(session(feed), kept)


def test_bound_calls_do_not_disturb_each_other(case: Any, sessions: list[tuple[Plan, Any]]) -> None:
    """Several feeds bound at once, run in turns, each give their own result every time."""
    for _, session in sessions:
        calls = [session.bind(feed) for feed in case.feeds]
        once, again = [[_arrays(call()) for call in calls] for _ in range(2)]
        for found, feed in zip(once, case.feeds, strict=True):
            _same(found, dict(zip(found, session(feed).values(), strict=True)))
        for found, wanted in zip(again, once, strict=True):
            _same(found, wanted)


def _arrays(result: Any) -> dict[str, Any]:
    """What a bound call returns, copied: a mapping, a sequence or one array, as the engine has."""
    values = result.values() if isinstance(result, Mapping) else result
    values = (
        values if isinstance(values, (list, tuple)) or isinstance(result, Mapping) else [values]
    )
    return {str(i): np.asarray(v).copy() for i, v in enumerate(values)}


def _renamed(feed: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}s": array for name, array in feed.items()}


def _retyped(kind: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda feed: {name: array.astype(kind) for name, array in feed.items()}


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no input": lambda _: {},
    "one more": lambda feed: {**feed, "more": np.zeros(1, np.float32)},
    "other names": _renamed,
    "float64": _retyped("float64"),
    "int32": _retyped("int32"),
    "bool": _retyped("bool"),
    "one axis more": lambda feed: {k: v[None] for k, v in feed.items()},
    "one axis less": lambda feed: {k: v[0] for k, v in feed.items()},
    "scalars": lambda feed: {k: v.ravel()[0] for k, v in feed.items()},
    "lists": lambda feed: {k: v.tolist() for k, v in feed.items()},
    "None": dict.fromkeys,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_feed_is_refused_in_our_words(
    case: Any, sessions: list[tuple[Plan, Any]], wrong: str
) -> None:
    """Nothing is cast or padded without a word, no foreign error comes out, and the session lives."""
    right = case.feeds[0]
    for _, session in sessions:
        before = session(right)
        for run in (session, session.bind):
            with pytest.raises((UsageError, CandidateBroken)) as caught:
                run(WRONG[wrong](dict(right)))
            assert str(caught.value).strip()
        _same(session(right), before)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mlp", lambda feed: {"x": feed["x"][:, :5]}),
        ("mlp", lambda feed: {"x": np.tile(feed["x"], 2)}),
        ("convnet", lambda feed: {"x": feed["x"][..., :6, :6]}),
        ("convnet", lambda feed: {"x": feed["x"][:, :1]}),
        ("attention", lambda feed: {**feed, "mask": feed["mask"][:, :2]}),
        ("attention", lambda feed: {**feed, "mask": np.tile(feed["mask"], (2, 1))}),
    ],
)
def test_a_wrong_size_is_refused(
    engine: Any, cases: Any, built: Built, name: str, change: Callable[[Any], Any]
) -> None:
    """A fixed axis of another size, and inputs that disagree on an axis that they share."""
    case = cases[name]
    for options in engine.options(case):
        with closing(engine.module.load(built(case, options))) as session:
            for run in (session, session.bind):
                with pytest.raises((UsageError, CandidateBroken), match="shape"):
                    run(change(dict(case.feeds[0])))


@pytest.mark.parametrize("threads", [1, 2, machine.cores() + 5])
def test_threads_are_honoured_or_refused(
    engine: Any, cases: Any, tmp_path: Path, threads: int
) -> None:
    """The plan says how many were asked for and how many were obtained: they are equal."""
    case = cases["mlp"]
    for i, options in enumerate(engine.options(case)):
        asked, folder = {**options, "threads": threads}, tmp_path / str(i)
        if threads > machine.cores() and engine.name == "openvino":  # it gives what there is
            with pytest.raises(CandidateBroken, match="threads"):
                engine.build(case, asked, folder)
            continue
        plan = engine.build(case, asked, folder)
        assert plan.facts["threads"] == plan.options["threads"]
        assert plan.options["threads"] == (1 if engine.name == "reference" else threads)
        engine.module.load(plan).close()


def test_a_precision_that_was_asked_for_is_read_back(
    engine: Any, cases: Any, built: Built, reference: Reference, tmp_path: Path
) -> None:
    """The facts name it, and the outputs show it: f32 is exact where bf16 is not."""
    case, able = cases["mlp"], engine.module.recipes(engine.target)
    wanted = reference(case.model, case.feeds, tmp_path / "reference")
    asked = [o for r in ("fp32", "bf16") if able[r] is None for o in engine.options(case, r)]
    asked = [o for o in asked if "precision" in o]
    if not asked:  # the graph or the module decides, and the facts say so
        plan = built(case, engine.options(case)[0])
        assert plan.facts["precision"].startswith("as in the ")
        return
    for options in asked:
        plan = built(case, options)
        assert plan.facts["precision"] == options["precision"]
        with closing(engine.module.load(plan)) as session:
            pairs = zip(case.feeds, wanted, strict=True)
            worst = max(float(np.abs(session(f)["y"] - w["y"]).max()) for f, w in pairs)
        assert (worst > 1e-4) == (options["precision"] == "bf16"), (options, worst)
    with pytest.raises(CandidateBroken, match=r"asked|refuses"):
        engine.build(case, {**asked[0], "precision": "f64"}, tmp_path / "f64")


def test_a_closed_session_stays_closed(sessions: list[tuple[Plan, Any]], case: Any) -> None:
    """Closing twice does no harm; calling afterwards is an error of ours."""
    for _, session in sessions:
        session.close()
        session.close()
        for run in (session, session.bind):
            with pytest.raises(CandidateBroken, match="closed"):
                run(case.feeds[0])


def test_a_plan_is_all_that_it_names(engine: Any, case: Any, tmp_path: Path) -> None:
    """What stands at plan.path, copied, loads when everything that it was built from is gone."""
    options = engine.options(case)[0]
    plan = engine.build(case, options, tmp_path / "built")
    moved = tmp_path / "moved" / plan.path.name
    moved.parent.mkdir()
    if plan.path.is_dir():
        shutil.copytree(plan.path, moved)
    else:
        graph.copy(plan.path, moved)
    shutil.rmtree(tmp_path / "built")
    plan = Plan(plan.engine, plan.model, moved, plan.options, plan.facts, plan.versions)
    with closing(engine.module.load(plan)) as session:
        session(case.feeds[0])


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x08" * 50, None])
def test_a_broken_graph_is_refused_in_our_words(
    engine: Any, cases: Any, tmp_path: Path, content: bytes | None
) -> None:
    """At build and, where the plan is a file, at load; `None` is half of a graph."""
    case = cases["mlp"]
    whole = case.model.path.read_bytes()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(whole[: len(whole) // 2] if content is None else content)
    if not engine.takes_graphs:
        _refuses_a_broken_workload(engine, case, tmp_path)
        return
    model = Model(broken, "broken", case.model.inputs, case.model.outputs)
    for i, options in enumerate(engine.options(case)):
        with pytest.raises(AccelError):
            engine.build(case, options, tmp_path / f"build-{i}", model)
        plan = engine.build(case, options, tmp_path / f"load-{i}")
        if plan.path.is_file():
            plan.path.write_bytes(broken.read_bytes())
            with pytest.raises(AccelError):
                engine.module.load(plan)


def _refuses_a_broken_workload(engine: Any, case: Any, folder: Path) -> None:
    """An engine that runs the user's module reads the workload, not the graph: at build, where it
    compiles the module, else at load."""
    options = engine.options(case)[0]
    bare = {k: v for k, v in options.items() if k != "workload"}
    with pytest.raises(UsageError, match="workload"):
        engine.build(case, bare, folder / "bare")
    broken = folder / "broken.py"
    broken.write_text("def model():\n    raise RuntimeError('no weights')\n")
    options = {**options, "workload": str(broken)}
    with pytest.raises(UsageError, match="no weights"):
        engine.module.load(engine.build(case, options, folder / "broken"))
    broken.unlink()
    with pytest.raises(UsageError, match=r"broken\.py is not a file"):
        engine.module.load(engine.build(case, options, folder / "absent"))
