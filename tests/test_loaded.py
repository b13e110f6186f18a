"""What accel.load answers with, as a service uses it: many threads, forks, wrong calls."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from accel import catalog, release, testing
from accel.errors import CandidateBroken, UsageError
from accel.loaded import Loaded
from accel.protocols import Session
from accel.values import Release, Request, Target

ENGINES = ("onnxruntime_cpu", "openvino")


@pytest.fixture(params=ENGINES)
def loaded(request: Any, tmp_path: Path) -> Loaded:
    """A tiny perceptron in an engine, with a static shape of its own where the engine has them."""
    library = request.param.removesuffix("_cpu")
    pytest.importorskip(library, reason=f"{library} is absent; instead: the other engine")
    model = testing.mlp(tmp_path / "mlp.onnx")
    engine = catalog.load("engines", request.param)
    here = Target("here", "this machine", (request.param,), local=True)
    asked = [Request("all", 1.0, feed(2))]
    out = tmp_path / "plan"
    out.mkdir()
    options = engine.options("fp32", here, asked, {})
    chosen = next((o for o in options if o.get("buckets")), options[0])
    return Loaded(engine.load(engine.build(model, here, chosen, asked, out)))


def feed(rows: int, value: float = 1.0) -> dict[str, Any]:
    return {"x": np.full((rows, 8), value, np.float32)}


def test_threads_never_see_each_others_answers(loaded: Loaded) -> None:
    """Eight threads call one engine at once, at two shapes: each gets its own answer."""
    asked = [feed(rows, value) for rows in (2, 3) for value in (-2.0, -1.0, 1.0, 2.0)]
    alone = [loaded(one) for one in asked]

    def often(i: int) -> bool:
        return all(
            np.array_equal(loaded(asked[i])[name], alone[i][name])
            for _ in range(300)
            for name in alone[i]
        )

    with ThreadPoolExecutor(len(asked)) as pool:
        assert all(pool.map(often, range(len(asked))))
    loaded.close()


@pytest.mark.parametrize(
    "wrong", [None, 5, [1], "x", {}, {"y": 1}, {"x": None}, {"x": [[1.0] * 8]}]
)
def test_a_wrong_feed_is_one_usage_error(loaded: Loaded, wrong: Any) -> None:
    """Anything that is not a dict of the right arrays is refused, before and after a right call."""
    for _ in range(2):
        for call in (loaded, loaded.bind):
            with pytest.raises(UsageError):
                call(wrong)
        loaded(feed(2))


def test_a_closed_engine_says_so(loaded: Loaded) -> None:
    """After close, a shape seen before and a new one are both refused; closing twice is fine."""
    loaded(feed(2))
    loaded.close()
    loaded.close()
    for rows in (2, 5):
        with pytest.raises(CandidateBroken, match="closed"):
            loaded(feed(rows))


def _called_in_a_fork(call: Callable[[], Any], answer: Any) -> None:
    try:
        call()
    except CandidateBroken as error:
        answer.put(str(error))
    else:
        answer.put("answered")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_is_told_to_load_again(packed: Callable[..., Release]) -> None:
    """The engine's threads do not exist in a forked process: it refuses rather than hang."""
    context = multiprocessing.get_context("fork")
    with release.load(packed().path) as run:
        answer = context.SimpleQueue()
        call = lambda: run({"x": np.ones((2, 4), np.float32)})  # noqa: E731
        process = context.Process(target=_called_in_a_fork, args=(call, answer))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        assert "after the fork" in answer.get()


class Deadly:
    """A fake engine: to let go of it ends the process."""

    def bind(self, _: Any) -> Callable[[], Any]:
        return lambda: "answered"

    def close(self) -> None:
        os._exit(9)

    __del__ = close


def _let_go(held: list[Loaded]) -> None:
    held[0].close()
    held.clear()
    gc.collect()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_that_lets_go_of_an_engine_lives_on() -> None:
    """To end it would wait for threads that stayed in the parent: gunicorn's workers load again."""
    held = [Loaded(cast("Session", Deadly()))]
    child = os.fork()
    if not child:
        _let_go(held)
        os._exit(0)
    # here, too, nobody may end it: that would end the tests
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(held[0]._session))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_bound_call_is_refused_where_a_plain_one_is(loaded: Loaded) -> None:
    """In a fork, and after close: the engine's memory is given back, so nothing may run on it."""
    call = loaded.bind(feed(2))
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=_called_in_a_fork, args=(call, answer))
    process.start()
    process.join(30)
    assert "after the fork" in answer.get()
    loaded.close()
    with pytest.raises(CandidateBroken, match="closed"):
        call()


def test_a_bound_call_speaks_as_a_plain_one_does(tmp_path: Path) -> None:
    """Its arrays may come to hold what the graph cannot take: no runtime's own error crosses."""
    model = testing.attention(tmp_path / "attention.onnx")
    asked = {k: v.copy() for k, v in testing.tokens(length=3).inputs.items()}
    run = Loaded(catalog.load("engines", "onnxruntime_cpu").load(testing.plan(model)))
    call = run.bind(asked)
    asked["ids"][...] = 10**6
    with pytest.raises(CandidateBroken, match="could not run"):
        call()
    run.close()
