"""What a workload's digests see: its file, the user's own modules behind it, libraries, tensors, settings."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from accel import arrays, job, sources, store, testing, workload
from accel.steps import _state, export
from accel.target import load

FILES = {
    "w.py": "import net\nfrom parts import head\nfrom parts.deep import far\ndef model(): return lazily()\n"
    "def lazily():\n    import late\n    return late.net\n",
    "net.py": "import numpy\nfrom parts.tail import tail\n",
    "late.py": "net = None\n",
    "parts/__init__.py": "from . import head\n",
    "parts/head.py": "from .tail import tail\n",
    "parts/tail.py": "import json, torch.nn\ntail = 1\n",
    "parts/deep/__init__.py": "",
    "parts/deep/far.py": "from ...parts import head\nfrom .. import tail\n",
    "parts/unused.py": "",
    "unused.py": "",
}
GROUPED = "def clusters(split): return eval(Path(__file__).with_name('ids').read_text())\n"
OWN = set(FILES) - {"w.py", "parts/unused.py", "unused.py"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workload and the modules of its project, which stand on the path."""
    for name, text in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize("name", FILES)
def test_the_users_own_modules_count(project: Path, name: str) -> None:
    """What a workload imports, at the top or in a function, at any depth; and nothing else."""
    before = sources.digest(project / "w.py")
    (project / name).write_text(FILES[name] + "# edited\n")
    assert (sources.digest(project / "w.py") != before) == (name in {*OWN, "w.py"})


def test_a_project_that_moved_is_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it lies and when it was written change nothing."""
    before = sources.digest(project / "w.py")
    moved = project.rename(project.with_name("moved"))
    monkeypatch.syspath_prepend(moved)
    for path in moved.rglob("*.py"):
        os.utime(path, (0, 0))
    assert sources.digest(moved / "w.py") == before


def test_a_workload_alone_is_its_bytes(tmp_path: Path) -> None:
    """Without modules of one's own, and without a name in it, the digest is that of the file."""
    path = tmp_path / "w.py"
    path.write_text("import json, torch, accel\nfrom accel import testing\n")
    assert sources.digest(path) == store.digest_file(path)


def test_two_objects_of_a_file_are_two_workloads(tmp_path: Path) -> None:
    """w.py:One and w.py:Two share their bytes, and may share their weights: nothing else."""
    path = tmp_path / "w.py"
    path.write_text(
        "class One:\n    def model(self): return None\nclass Two(One):\n    metric_unit = 'fraction'\n"
    )
    found = [workload.load(f"{path}:{name}").digest for name in ("One", "Two")]
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "import nothing_of_this_name",
        "from . import sibling",
        "from ..above import x",
        "import broken",
        "import _bare.inner",
        "import __main__",
    ],
)
def test_an_import_that_cannot_be_followed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Whoever runs it says what is wrong; the digest does not fail."""
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "_bare.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "w.py"
    path.write_text(f"try:\n    {text}\nexcept Exception:\n    pass\n")
    assert sources.digest(path)
    assert sources.versions(path) == {}


def test_a_folder_without_an_init_is_a_package_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace package of the user's is followed."""
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "inner.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "w.py"
    path.write_text("from space.inner import x\n")
    before = sources.digest(path)
    (tmp_path / "space" / "inner.py").write_text("x = 2\n")
    assert sources.digest(path) != before


def test_libraries_are_told_by_their_versions(project: Path) -> None:
    """Those that the workload or its own modules import, however deep, and no module of Python's."""
    found = sources.versions(project / "w.py")
    assert set(found) == {"numpy", "torch"}
    assert found["numpy"] == np.__version__


def test_a_library_of_the_workload_is_in_every_key(tmp_path: Path) -> None:
    """A tokenizer's version is no less a library's than the runtime's."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    path = tmp_path / "w.py"
    path.write_text(
        f"import click\nimport numpy as np\ndef model(): return {str(model)!r}\n"
        "def inputs(): return {'x': np.ones((2, 8), 'f4')}\n"
    )
    made = job.prepare(str(path), load("cpu-local"), None, tmp_path / "work")
    assert {"click", "numpy", "torch", "onnxruntime"} <= set(made.versions)


def test_groups_of_samples_are_part_of_the_data(tmp_path: Path) -> None:
    """Which samples belong together decides the interval of a score."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    found = set()
    for ids in ("[0, 0, 1]", "[0, 1, 1]", None):
        path = tmp_path / "w.py"
        path.write_text(
            f"import numpy as np\nfrom pathlib import Path\ndef model(): return {str(model)!r}\n"
            "X = {'x': np.ones((1, 8), 'f4')}\ndef inputs(): return X\n"
            "def samples(split): return [(X, 1)] * 3\ndef row(o, l): return 1.0\n"
            "def metric(r): return r.mean()\n" + (GROUPED if ids else "")
        )
        (tmp_path / "ids").write_text(str(ids))
        made = workload.load(str(path))
        found.add(job._samples_digest(made, "search"))
    assert len(found) == 3


class Net(torch.nn.Module):
    """A module whose settings stand in every place where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)
        self.act: Any = torch.nn.GELU()
        self.register_buffer("kept", torch.zeros(2))
        self.register_buffer("position", torch.arange(3), persistent=False)
        self.scale: Any = 0.5
        self.heads: Any = 4
        self._hidden: Any = "relu"
        self.mask: Any = torch.ones(2)
        self.table: Any = np.ones(3)
        self.function: Any = torch.nn.functional.relu
        self.deep: Any = {"a": [1, (2.5, None)], "b": {1, 2}}
        self.config: Any = Config()
        self.experts: Any = [torch.nn.Linear(2, 2)]  # none of named_modules, as in the dict below
        torch.nn.init.ones_(self.experts[0].weight)
        torch.nn.init.ones_(self.experts[0].bias)
        self.heads_by_name: Any = {"a": torch.nn.ModuleList([torch.nn.LayerNorm(2)])}
        self.experts[0].whole = [self]  # and back again
        self.transformers: Any = SimpleNamespace(to_dict=lambda: {"eps": 1e-5})


@dataclasses.dataclass
class Config:
    """A setting in an object of its own."""

    eps: float = 1e-5


def of_linear(n: Net) -> None:
    n.linear.weight.data[0, 1] = 1.0


EDITS: dict[str, Callable[[Net], Any]] = {
    "a weight": of_linear,
    "a buffer": lambda n: n.kept.add_(1),  # type: ignore[operator]
    "a buffer that is not saved": lambda n: n.position.add_(1),  # type: ignore[operator]
    "an activation": lambda n: setattr(n, "act", torch.nn.ReLU()),
    "how it is approximated": lambda n: setattr(n, "act", torch.nn.GELU("tanh")),
    "a number": lambda n: setattr(n, "scale", 0.25),
    "its kind": lambda n: setattr(n, "heads", 4.0),
    "a hidden word": lambda n: setattr(n, "_hidden", "gelu"),
    "a plain tensor": lambda n: setattr(n, "mask", torch.zeros(2)),
    "its dtype": lambda n: setattr(n, "mask", torch.ones(2, dtype=torch.float64)),
    "an array": lambda n: setattr(n, "table", np.ones((3, 1))),
    "a function": lambda n: setattr(n, "function", torch.nn.functional.silu),
    "deep down": lambda n: setattr(n, "deep", {"a": [1, (2.5, 0)], "b": {1, 2}}),
    "a set": lambda n: setattr(n, "deep", {"a": [1, (2.5, None)], "b": {1, 3}}),
    "a config": lambda n: setattr(n.config, "eps", 1e-6),
    "transformers' config": lambda n: setattr(n.transformers, "to_dict", lambda: {"eps": 1e-6}),
    "a weight in a list": lambda n: n.experts[0].weight.data.mul_(2),
    "a weight deep in a dict": lambda n: n.heads_by_name["a"][0].bias.data.add_(1),
    "an attribute more": lambda n: setattr(n, "more", True),
    "an epsilon": lambda n: setattr(n, "norm", torch.nn.LayerNorm(2, eps=1e-6)),
}


def test_each_setting_of_a_module_counts() -> None:
    """A graph is exported anew where a tensor, a number or a name differs, saved or not."""
    found = {"as built": _state.digest(Net())}
    for name, edit in EDITS.items():
        net = Net()
        edit(net)
        found[name] = _state.digest(net)
    assert len(set(found.values())) == len(found), found
    print(f"{len(EDITS)} edits of a module, all apart")


def test_a_module_is_the_same_in_every_process() -> None:
    """No address and no order of a set gets into its digest; calling it changes nothing."""
    code = (
        "import importlib.util, sys; from accel.steps import _state\n"
        f"spec = importlib.util.spec_from_file_location('made_here', {__file__!r})\n"
        "m = importlib.util.module_from_spec(spec); sys.modules['made_here'] = m\n"
        "spec.loader.exec_module(m); print(_state.digest(m.Net()))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    net = Net()
    before = _state.digest(net)
    net.linear(torch.ones(1, 2))
    assert told.stdout.decode().strip() == before == _state.digest(net)


def test_code_that_only_model_finds_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name and a path that are made in model(): the file of the class, and what that file imports."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "later").mkdir()
    files = {
        "later/later_ops.py": "def act(x): return x\n",
        "later/later_base.py": "import torch\nclass Base(torch.nn.Module): pass\n",
        "later/later_net.py": "import later_ops\nfrom later_base import Base\nclass Net(Base):\n"
        "    def forward(self, x): return later_ops.act(x)\n",
        "w.py": "import importlib, sys\nfrom pathlib import Path\ndef model():\n"
        "    sys.path.insert(0, str(Path(__file__).parent / 'later'))\n"
        "    return importlib.import_module('later_net').Net()\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    source = tmp_path / "w.py"
    alone, before = sources.digest(source), export.weights_digest(str(source), None)
    assert export.weights_digest(str(source), None) == before
    for name in list(files)[:-1]:
        (tmp_path / name).write_text(files[name] + "# edited\n")
        assert export.weights_digest(str(source), None) != before
        (tmp_path / name).write_text(files[name])
    assert sources.digest(source) == alone
    assert export.weights_digest(str(source), None) == before


def test_feeds_in_another_order_are_others(tmp_path: Path) -> None:
    """Samples, calibration and requests are digested in the order in which they come."""
    a, b = ({"x": np.full(2, v, np.float32)} for v in (0, 1))
    assert arrays.digest([a, b]) != arrays.digest([b, a])


def test_which_calls_are_one_sample_is_part_of_the_data(tmp_path: Path) -> None:
    """Two pairs and one call, or one call and two pairs: the same feeds in the same order."""
    found = set()
    for at, parts in enumerate(("[[X, X], [X]]", "[[X], [X, X]]")):
        path = tmp_path / f"w{at}.py"
        path.write_text(
            "import numpy as np\nX = {'x': np.ones((1, 2), np.float32)}\ndef model(): ...\n"
            f"def samples(split): return [(calls, 0) for calls in {parts}]\n"
        )
        found.add(job._samples_digest(workload.load(str(path)), "search"))
    assert len(found) == 2
