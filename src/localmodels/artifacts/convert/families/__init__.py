"""Families of models, one file each, and the table of them.

A family is a function from a configuration and a folder to a :class:`~..drawing.Model`: metadata, and for each tensor
of the file what it is made of. It reads no weights. To add one, write the function and name its classes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from localmodels.artifacts.convert.config import Config
from localmodels.artifacts.convert.drawing import Model
from localmodels.artifacts.convert.families import bert, gemma, gpt_oss, llama, phi, qwen
from localmodels.artifacts.convert.folder import Folder

Family = Callable[[Config, Folder], Model]

# By the class that config.json names under `architectures`.
FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": llama.read,
    "MistralForCausalLM": llama.read,
    "MixtralForCausalLM": llama.read,
    "Qwen2ForCausalLM": qwen.read_qwen2,
    "Qwen3ForCausalLM": qwen.read_qwen3,
    "Qwen3MoeForCausalLM": qwen.read_qwen3_moe,
    "Gemma2ForCausalLM": gemma.read_gemma2,
    "Gemma3ForCausalLM": gemma.read_gemma3,
    "Gemma3ForConditionalGeneration": gemma.read_gemma3,
    "Phi3ForCausalLM": phi.read,
    "GptOssForCausalLM": gpt_oss.read,
    "BertModel": bert.read_bert,
    "BertForMaskedLM": bert.read_bert,
    "BertForSequenceClassification": bert.read_bert_ranker,
    "DistilBertModel": bert.read_distilbert,
    "DistilBertForMaskedLM": bert.read_distilbert,
    "RobertaModel": bert.read_roberta,
    "RobertaForMaskedLM": bert.read_roberta,
    "RobertaForSequenceClassification": bert.read_roberta_ranker,
    "XLMRobertaModel": bert.read_roberta,
    "XLMRobertaForMaskedLM": bert.read_roberta,
    "XLMRobertaForSequenceClassification": bert.read_roberta_ranker,
    "NomicBertModel": bert.read_nomic,
}

__all__ = ["FAMILIES", "Family"]
