"""Pauses that nobody asked for: a full collection of garbage looks through all that was ever imported."""

from __future__ import annotations

import gc


def settle() -> None:
    """Leave what is in memory now out of later collections, each of which would stop all threads for 0.1 to 0.3 s.

    For what stays as long as the process: what could go, such as a model, must not be there yet.
    """
    gc.collect()
    gc.freeze()


def settle_with_libraries() -> None:
    """Do the same once what loads models has been imported."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    del torch, AutoModelForCausalLM, AutoTokenizer
    settle()
