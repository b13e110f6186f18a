"""all-MiniLM-L6-v2's architecture with random weights: no download, and times do not depend on them."""

from __future__ import annotations

from typing import Any

import torch

VOCABULARY = 30522
outputs = ("sentence_embedding",)
dynamic = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}


class Sentence(torch.nn.Module):
    """The encoder, the masked mean over tokens, the unit norm: as examples/minilm.py has it."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        torch.manual_seed(0)
        sizes = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
        config = BertConfig(vocab_size=VOCABULARY, num_attention_heads=12, **sizes)
        config._attn_implementation = "sdpa"  # torch's own: eager's softmax would slow all arms
        self.bert = BertModel(config)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        """[N, S] and [N, S] -> [N, 384]."""
        hidden = self.bert(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=torch.zeros_like(input_ids),
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, p=2.0, dim=1)


def model() -> torch.nn.Module:
    """In evaluation mode."""
    return Sentence().eval()


def requests() -> list[tuple[str, float, dict[str, Any]]]:
    """One sentence of 128 tokens, and eight, whose last third is padding."""
    return [(f"[{batch}, 128]", 0.5, _feed(batch)) for batch in (1, 8)]


def _feed(batch: int) -> dict[str, Any]:
    import numpy as np

    ids = np.random.default_rng(batch).integers(1000, VOCABULARY, (batch, 128))
    mask = np.ones((batch, 128), np.int64)
    mask[1:, 86:] = 0
    return {"input_ids": ids.astype(np.int64), "attention_mask": mask}
