"""What candidates and their graphs are called. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from accel import store
from accel.values import Candidate, Options, QuantStyle

SHORT = {
    "onnxruntime_cpu": "ort",
    "onnxruntime_cuda": "ort-cuda",
    "torch_export": "export",
    "torchscript": "script",
}
STYLED = ("int8", "bf16", "weight_only")  # how the names of recipes begin that look at the style
SILENT = {"threads", "padding", "workload"}  # the same for every candidate of a run


def label(
    engine: str,
    recipe: str,
    root: str,
    variant: Options,
    options: Options,
    kernels: Sequence[str] = (),
) -> str:
    """A name that a person can read in a table: "ort int8_dynamic fuse @script"."""
    words = [SHORT.get(engine, engine), recipe, *_words(variant), *_words(options)]
    words += ["kernels"] if kernels else []
    return " ".join(words) + f" @{SHORT.get(root, root)}"


def _words(options: Options) -> list[str]:
    words = []
    for key, value in options.items():
        if key in SILENT or value is None or value is False:
            continue
        if value is True:
            words.append(key)
        elif isinstance(value, str):
            words.append(value)
        elif isinstance(value, (list, tuple, dict)):
            words.append(f"{key}:{len(value)}")
        else:
            words.append(f"{key}={value}")
    return words


def graph_of(candidate: Candidate) -> tuple[str, ...]:
    """What decides a candidate's graph for its engine: settings of the engine do not."""
    options = repr(sorted(candidate.recipe_options.items()))
    kernels = "kernels" if candidate.kernels else ""
    return candidate.engine, candidate.root, candidate.recipe, options, kernels


def styled(recipe: str, style: QuantStyle) -> QuantStyle | None:
    """The style where it decides what the recipe makes: int8's Q/DQ, weight_only's form, and bf16's hint
    or types."""
    return style if recipe.startswith(STYLED) else None


def graph_key(candidate: Candidate, style: QuantStyle) -> str:
    """The name under which another machine finds this graph: `graph_of`, and the style it is made in."""
    return store.digest_json([*graph_of(candidate), styled(candidate.recipe, style)])[:20]
