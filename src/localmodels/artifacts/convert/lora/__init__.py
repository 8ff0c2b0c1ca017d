"""LoRA adapters as PEFT leaves them: read, written as adapters of llama.cpp, or merged into their base."""

from __future__ import annotations

from localmodels.artifacts.convert.lora.adapter import Adapter, read_adapter, without_base
from localmodels.artifacts.convert.lora.file import AdapterFile, MustBeMerged, adapter_file
from localmodels.artifacts.convert.lora.merged import Merged
from localmodels.artifacts.convert.lora.rules import Rule, rules_of_header, rules_of_model

__all__ = [
    "Adapter",
    "AdapterFile",
    "Merged",
    "MustBeMerged",
    "Rule",
    "adapter_file",
    "read_adapter",
    "rules_of_header",
    "rules_of_model",
    "without_base",
]
