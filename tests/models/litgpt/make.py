"""Write the tiny checkpoints of this folder, with LitGPT's own code and its own logits for a row of tokens.

Not a test: it was run once with LitGPT 0.5.13, in an environment of its own (`pip install litgpt`).
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from litgpt.config import Config  # type: ignore[import-not-found]
from litgpt.model import GPT  # type: ignore[import-not-found]
from safetensors.torch import save_file

SAME: dict[str, Any] = {
    "block_size": 64,
    "n_layer": 2,
    "n_embd": 16,
    "vocab_size": 30,
    "padded_vocab_size": 32,
}
LLAMA: dict[str, Any] = SAME | {
    "n_head": 4,
    "n_query_groups": 2,
    "rotary_percentage": 1.0,
    "parallel_residual": False,
    "bias": False,
    "norm_class_name": "RMSNorm",
    "mlp_class_name": "LLaMAMLP",
    "intermediate_size": 24,
}
STRETCHED = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_seq_len": 32}
CONFIGS = {
    "llama": LLAMA | {"rope_base": 500000, "rope_adjustments": STRETCHED},
    "qwen2": LLAMA | {"attn_bias": True, "norm_eps": 1e-6, "rope_base": 1000000},
    "qwen3": LLAMA | {"norm_qk": True, "head_size": 8, "norm_eps": 1e-6},
    "pythia": SAME | {"n_head": 2, "rope_condense_ratio": 2},
    "neox": SAME
    | {"n_head": 2, "rotary_percentage": 0.5, "parallel_residual": False, "gelu_approximate": "tanh"},
}

for seed, (name, settings) in enumerate(CONFIGS.items()):
    torch.manual_seed(seed)
    config = Config(name=name, **settings)
    model = GPT(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.4)
    tokens = torch.randint(0, config.vocab_size, (1, 40))
    with torch.no_grad():
        logits = model(tokens)
    folder = Path(__file__).parent / name
    folder.mkdir(exist_ok=True)
    state = model.state_dict()
    # Pre-training writes the whole state of the run, fine-tuning the weights alone.
    torch.save({"model": state} if name == "pythia" else state, folder / "lit_model.pth")
    (folder / "model_config.yaml").write_text(yaml.dump(asdict(config)), encoding="utf-8")
    save_file({"tokens": tokens, "logits": logits}, folder / "expected.safetensors")
