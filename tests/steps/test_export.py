"""Export: two roads from real modules to a graph that is proven against eager, or a reason."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from accel import graph, testing, workload
from accel.errors import BadModel, CandidateBroken, UsageError
from accel.steps import _shapes, export
from accel.values import Feed, Model, Workload

pytestmark = [
    # what the exporters of this torch warn of themselves
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)


class Plain(nn.Module):
    """One tensor."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        return torch.tanh(self.linear(x))


class Named(Plain):
    """A dict."""

    def forward(self, x: Tensor) -> Any:
        hidden = self.linear(x)
        return {"hidden": hidden, "pooled": hidden.mean(dim=1)}


class Several(Plain):
    """A tuple: floats, classes, and a truth value a row."""

    def forward(self, x: Tensor) -> Any:
        logits = self.linear(x)
        return logits, logits.argmax(dim=-1), logits.sum(dim=-1) > 0


class Masked(nn.Module):
    """Integers and booleans in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 4)

    def forward(self, ids: Tensor, keep: Tensor) -> Any:
        return (self.table(ids) * keep.unsqueeze(-1)).sum(dim=1)


class Minus(nn.Module):
    """What it gives depends on which input is which."""

    def forward(self, a: Tensor, b: Tensor) -> Any:
        return a - b


class Gap(nn.Module):
    """As GPT-2 has its past_key_values before the mask: a parameter that nobody feeds."""

    def forward(self, a: Tensor, unused: Tensor | None = None, b: Tensor | None = None) -> Any:
        return a - b if unused is None else a - unused


class OwnDtype(Plain):
    """Insists on float32 inside: it cannot run in float64."""

    def forward(self, x: Tensor) -> Any:
        return self.linear(x) @ torch.ones(3, 2, dtype=torch.float32)


class Constant(Plain):
    """Takes the batch size out of the graph."""

    def forward(self, x: Tensor) -> Any:
        return self.linear(x).reshape(int(x.shape[0]), 3)


class Listed(Plain):
    """A Python number that depends on the batch size, without a shape that would betray it."""

    def forward(self, x: Tensor) -> Any:
        return self.linear(x) * [0.0, 1.0, 2.0, 3.0][int(x.shape[0])]


class Broken(nn.Module):
    """Fails in the middle, for a reason of its own."""

    def forward(self, x: Tensor) -> Any:
        try:
            raise KeyError("the first cause")
        except KeyError as error:
            if torch.compiler.is_exporting() or torch.jit.is_tracing():
                raise RuntimeError("the second cause") from error
        return x


def problem(module: Callable[[], nn.Module], feed: Feed | None = None, **words: Any) -> Workload:
    """A workload whose every first axis is the batch."""
    given = {"x": X} if feed is None else feed
    dynamic = words.pop("dynamic", {name: {0: "batch"} for name in given})
    return Workload("w.py", "w", "", model=module, inputs=lambda: given, dynamic=dynamic, **words)


def answers(model: Model, feed: Feed) -> dict[str, Any]:
    """The graph's outputs by name, straight from the runtime."""
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


MASKED = {"ids": np.array([[1, 2, 3], [4, 5, 0]]), "keep": np.array([[True] * 3, [True] * 2 + [False]])}  # fmt: skip
MASKED_AXES = {name: {0: "batch", 1: "length"} for name in MASKED}


@pytest.mark.parametrize("exporter", export.EXPORTERS)
@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (problem(Plain), ["output_0"]),
        (problem(Plain, outputs=("y",)), ["y"]),
        (problem(Named), ["hidden", "pooled"]),
        (problem(Several, outputs=("logits", "label", "positive")), ["logits", "label", "positive"]),
        (problem(Masked, MASKED, dynamic=MASKED_AXES), ["output_0"]),
        (problem(Plain, dynamic={}), ["output_0"]),
        (problem(Minus, {"b": X + 1, "a": X}), ["output_0"]),
        (problem(Gap, {"a": X, "b": X + 1}), ["output_0"]),
        (problem(Plain, {"x": X[:, ::-1]}), ["output_0"]),
        (problem(Plain, {"x": X[:1][::-1]}, dynamic={}), ["output_0"]),
    ],
    ids=["tensor", "named by the workload", "dict", "tuple", "integers in", "nothing dynamic", "in another order", "past a default", "turned", "one row, turned"],
)  # fmt: skip
def test_the_graph_is_what_eager_computes(
    tmp_path: Path, exporter: str, asked: Workload, names: list[str]
) -> None:
    """Both exporters keep names, dtypes and values at every shape, and record their opset."""
    model = export.export(asked, exporter, tmp_path)
    assert [p.name for p in model.outputs] == names
    assert model.trail[0].startswith(f"{exporter} opset {export.OPSETS[exporter]}, off by ")
    opsets = {o.domain: o.version for o in onnx.load(model.path).opset_import}
    assert opsets[""] == export.OPSETS[exporter]
    feeds = _shapes.shapes(asked)
    assert len(feeds) == (3 if asked.dynamic else 1)
    module = asked.model()
    for feed in feeds:
        with torch.no_grad():
            tensors = {k: torch.from_numpy(v) for k, v in feed.items()}
            wanted = workload.named_outputs(workload.call(module, tensors), asked)
        for name, found in answers(model, feed).items():
            assert found.dtype == wanted[name].numpy().dtype
            np.testing.assert_allclose(found, wanted[name].numpy(), atol=1e-5)


def test_three_shapes() -> None:
    """The example, batch 1, and another size of every axis; ids stay ids, masks stay masks."""
    feeds = _shapes.shapes(problem(Masked, MASKED, dynamic=MASKED_AXES))
    assert [f["ids"].shape for f in feeds] == [(2, 3), (1, 3), (3, 5)]
    assert all(f["keep"].dtype == bool and f["ids"].max() < 10 for f in feeds)


@pytest.mark.parametrize("exporter", export.EXPORTERS)
@pytest.mark.parametrize("module", [Constant, Listed])
def test_an_axis_that_became_constant_is_named(
    tmp_path: Path, exporter: str, module: Callable[[], nn.Module]
) -> None:
    """A batch size baked into the graph, by either exporter, is refused with the axis's name."""
    with pytest.raises(CandidateBroken, match=r"batch\b"):
        export.export(problem(module), exporter, tmp_path)


def test_every_cause_is_told(tmp_path: Path) -> None:
    """An exporter's error comes with the errors that caused it, without terminal colours."""
    with pytest.raises(CandidateBroken, match="torch_export failed: ") as caught:
        export.export(problem(Broken), "torch_export", tmp_path)
    assert "second cause" in str(caught.value)
    assert "first cause" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Let the exporter write its file, then change a weight in it."""
    real = export._export

    def export_then_spoil(
        module: Any, feed: Feed, asked: Workload, exporter: str, path: Path
    ) -> Any:
        names = real(module, feed, asked, exporter, path)
        proto = onnx.load(path)
        for tensor in proto.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor).copy()
            if array.dtype == np.float32 and array.size > 1:
                change(array)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        onnx.save(proto, path)
        return names

    monkeypatch.setattr(export, "_export", export_then_spoil)


def scaled(array: Any) -> None:
    array *= 1.001


def not_a_number(array: Any) -> None:
    array.flat[0] = np.nan


@pytest.mark.parametrize("exporter", export.EXPORTERS)
@pytest.mark.parametrize("change", [scaled, not_a_number])
def test_a_graph_that_is_subtly_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exporter: str, change: Callable[[Any], None]
) -> None:
    """Weights off by a thousandth, or one NaN, do not pass for rounding."""
    spoil(monkeypatch, change)
    with pytest.raises(
        CandidateBroken, match=rf"{exporter}: 'output_0' is off by (\S+) from eager"
    ):
        export.export(problem(Plain), exporter, tmp_path)


class Huge(Plain):
    """A small output beside one whose rounding errors are larger than the small one."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Any:
        return self.linear(x), self.other(x) * 1e9


def scaled_small(array: Any) -> None:
    if array.shape[0] == 3 or array.shape[-1] == 3:
        array *= 1.001


def test_one_output_does_not_excuse_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is allowed is each output's own: a huge one leaves no room in a small one."""
    asked = problem(Huge, outputs=("small", "huge"))
    export.export(asked, "torchscript", tmp_path)
    spoil(monkeypatch, scaled_small)
    with pytest.raises(CandidateBroken, match="'small' is off by"):
        export.export(asked, "torchscript", tmp_path)


def test_a_module_with_its_own_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a module does not run in float64, its noise is found otherwise, and that is said."""
    model = export.export(problem(OwnDtype), "torchscript", tmp_path)
    assert "does not run in float64" in model.trail[1]
    spoil(monkeypatch, scaled)
    with pytest.raises(CandidateBroken, match="is off by"):
        export.export(problem(OwnDtype), "torchscript", tmp_path)


class Locked(OwnDtype):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_a_module_that_cannot_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its noise is found by its own weights, which come out of it bit for bit as they were."""
    module = Locked()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = export.export(problem(lambda: module), "torchscript", tmp_path)
    assert "cannot be copied" in model.trail[1]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    spoil(monkeypatch, scaled)
    with pytest.raises(CandidateBroken, match="is off by"):
        export.export(problem(Locked), "torchscript", tmp_path)


class Positions(nn.Module):
    """As transformers are: a table that ends at six positions, and no sequence below `least`."""

    def __init__(self, least: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.least, self.table = least, nn.Embedding(6, 4)

    def forward(self, x: Tensor) -> Any:
        if not torch.jit.is_tracing() and x.shape[1] < self.least:
            raise RuntimeError(f"{x.shape[1]} are too few")
        return x.unsqueeze(-1) * self.table(torch.arange(x.shape[1]))


LONG = {"x": np.ones((2, 6), np.float32)}
LONG_AXES = {"x": {0: "batch", 1: "sequence"}}


def test_an_example_at_the_models_largest_size(tmp_path: Path) -> None:
    """Where eager takes no longer sequence, a shorter one shows that the axis is dynamic."""
    model = export.export(problem(Positions, LONG, dynamic=LONG_AXES), "torchscript", tmp_path)
    assert answers(model, {"x": np.ones((3, 4), np.float32)})["output_0"].shape == (3, 4, 4)


def test_an_axis_that_has_one_size_is_the_workloads_error(tmp_path: Path) -> None:
    """Neither longer nor shorter: it is not the graph that is wrong, and inputs() is named."""
    asked = problem(lambda: Positions(6), LONG, dynamic=LONG_AXES)
    with pytest.raises(UsageError, match=r"sequence 7 nor at .*sequence 5.*inputs\(\)"):
        export.export(asked, "torchscript", tmp_path)


def test_a_number_stays_one() -> None:
    """An input without axes has none in the other shapes either."""
    feed = {"x": X, "scale": np.array(2.0, np.float32)}
    asked = problem(Plain, feed, dynamic={"x": {0: "batch"}})
    assert [f["scale"].shape for f in _shapes.shapes(asked)] == [()] * 3


def test_a_graph_is_its_own_root(tmp_path: Path) -> None:
    """A path from model() is copied and named; a broken one is a BadModel, a crash a UsageError."""
    given = testing.mlp(tmp_path / "given.onnx")
    (tmp_path / "out").mkdir()
    model = export.export(problem(lambda: given.path), export.EXPORTERS[0], tmp_path / "out")  # type: ignore[arg-type,return-value]
    assert model.digest == graph.describe(given.path).digest
    assert model.trail == ("given as given.onnx",)
    (tmp_path / "bad.onnx").write_bytes(b"")
    with pytest.raises(BadModel, match="is empty"):
        export.export(problem(lambda: tmp_path / "bad.onnx"), export.EXPORTERS[0], tmp_path)  # type: ignore[arg-type,return-value]
    with pytest.raises(UsageError, match=r"model\(\) failed at test_export\.py:\d+ in .*: ZeroDiv"):
        export.export(problem(lambda: 1 / 0), export.EXPORTERS[0], tmp_path)  # type: ignore[arg-type,return-value]


def test_names_must_fit_the_outputs(tmp_path: Path) -> None:
    """`outputs` with another count than the model gives is the user's error."""
    with pytest.raises(UsageError, match=re.escape("outputs names 2; the model gives 1.")):
        export.export(problem(Plain, outputs=("a", "b")), "torchscript", tmp_path)


def test_a_dict_has_names_of_its_own(tmp_path: Path) -> None:
    """`outputs` chooses none of them and renames none: others are the user's error, the same are not."""
    said = re.escape("outputs names hidden; the model gives a dict of hidden, pooled")
    with pytest.raises(UsageError, match=said):
        export.export(problem(Named, outputs=("hidden",)), "torchscript", tmp_path)
    asked = problem(Named, outputs=("pooled", "hidden"))
    model = export.export(asked, "torchscript", tmp_path)
    assert [p.name for p in model.outputs] == ["hidden", "pooled"]


def test_an_output_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    """A tuple within the tuple is the model's own, and neither an axis nor an exporter is blamed."""
    asked = problem(lambda: nn.LSTM(4, 3, batch_first=True), {"x": np.ones((2, 5, 4), np.float32)})
    with pytest.raises(UsageError, match="gives a tuple among its outputs"):
        export.export(asked, "torchscript", tmp_path)


def test_the_digest_of_weights_sees_a_bit(tmp_path: Path) -> None:
    """Same source, other weights: another digest; the same weights: the same."""
    source = tmp_path / "w.py"
    source.write_text(
        "import torch\ndef model():\n"
        "    net = torch.nn.Linear(2, 2)\n"
        "    net.load_state_dict(torch.load(__file__ + '.pt'))\n    return net\n"
    )
    state = torch.nn.Linear(2, 2).state_dict()
    found = []
    for bump in (0.0, 0.0, 1e-6):
        state["bias"][1] += bump
        torch.save(state, f"{source}.pt")
        found.append(export.weights_digest(str(source), None))
    assert found[0] == found[1] != found[2]
