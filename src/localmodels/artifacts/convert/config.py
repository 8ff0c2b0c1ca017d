"""A model's ``config.json``, read strictly: every field is read by a family, or known to compute nothing.

The rule: a field that nobody here knows is refused by its name, since it may change what the model computes; a silent
guess would be a model that answers a little wrong. A user who knows better can name it as one to ignore.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NoReturn, TypeGuard

from localmodels.artifacts.convert.job import IGNORED
from localmodels.core.errors import ModelDamaged, Unsupported

FILE = "config.json"

MOST_LAYERS = 512  # LLAMA_MAX_LAYERS in llama.cpp
WIDEST = 2**20
LARGEST = 3.4e38  # what fits into 32 bits

# Fields that say where a model comes from, how it is trained, or how text is generated with it: they change nothing
# that is computed for a given prompt. Those of generation are older models'; newer ones have a file for them.
HARMLESS = frozenset({
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "name_or_path", "auto_map",
    "use_cache", "return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores",
    "torchscript", "is_encoder_decoder", "is_decoder", "use_bfloat16", "tf_legacy_loss", "pruned_heads",
    "tokenizer_class", "prefix", "finetuning_task", "task_specific_params", "problem_type", "id2label", "label2id",
    "num_labels", "attn_implementation", "chunk_size_feed_forward", "gradient_checkpointing", "use_reentrant",
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id",
    "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "vocab_size", "bos_token", "eos_token",
    "initializer_range", "initializer_factor", "attention_dropout", "hidden_dropout", "hidden_dropout_prob",
    "attention_probs_dropout_prob", "classifier_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout",
    "attention_probs_dropout", "residual_dropout", "embedding_dropout", "ffn_dropout", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "activation_dropout",
    "router_aux_loss_coef", "output_router_logits", "router_jitter_noise", "input_jitter_noise",
    "cache_implementation", "max_length", "min_length", "do_sample", "early_stopping", "num_beams",
    "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
    "remove_invalid_values", "cross_attention_hidden_size", "add_cross_attention", "tie_encoder_decoder",
    "gradient_checkpointing_kwargs", "model_max_length", "keys_to_ignore_at_inference",
})  # fmt: skip
_PRIVATE = ("_", "unsloth")
"""How names begin that libraries keep for themselves."""


class Config:
    """The fields of a configuration; remembers which were read.

    Args:
        values: the object in the file, one of text in a model of several kinds.
        ignored: fields that the user says compute nothing.
    """

    def __init__(self, values: Mapping[str, Any], *, ignored: Collection[str] = ()) -> None:
        self.values = values
        self._ignored = frozenset(ignored)
        self._read = set(ignored)

    def assume(self, defaults: Mapping[str, Any]) -> None:
        """Fills in fields that are not there, as the model's class would."""
        self.values = {**defaults, **self.values}

    def get(self, name: str) -> Any:
        """A value as it stands there; None where there is none."""
        self._read.add(name)
        return self.values.get(name)

    def count(self, name: str, default: int | None = None, *, low: int = 1, high: int = WIDEST) -> int:
        """A whole number.

        Raises:
            ModelDamaged: it is missing (and there is no default), none, or out of bounds.
        """
        value = self.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            _damaged(name, f"a whole number from {low} to {high}", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number that is not below 0, and that 32 bits can hold.

        Raises:
            ModelDamaged: it is missing (and there is no default), or none.
        """
        value = self.get(name)
        if value is None and default is not None:
            return default
        if not is_number(value) or value < 0:
            _damaged(name, f"a number from 0 to {LARGEST:g}", value)
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """A truth value.

        Raises:
            ModelDamaged: it is none.
        """
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            _damaged(name, "true or false", value)
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts; None where there is none.

        Raises:
            ModelDamaged: it is something else.
        """
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            _damaged(name, "a list of texts", value)
        return tuple(value)

    def table(self, name: str) -> Mapping[str, Any]:
        """An object; an empty one where there is none.

        Raises:
            ModelDamaged: it is something else.
        """
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            _damaged(name, "an object", value)
        return value

    def must(self, **fields: object) -> None:
        """Checks fields that the engine computes with certain values alone: one, or any of a tuple of them.

        A field that is missing or null passes.

        Raises:
            Unsupported: one has another value.
        """
        for name, due in fields.items():
            value = self.get(name)
            allowed = due if isinstance(due, tuple) else (due,)
            if value is not None and not any(_is(value, one) for one in allowed):
                listed = " or ".join(repr(one) for one in allowed) or "none"
                said = shortened(repr(value), 80)
                raise Unsupported(f"{FILE}: {name} is {said}; the engine computes such a model only with {listed}")

    def ignores(self, name: str) -> bool:
        """Does the user say that a field computes nothing?"""
        return name in self._ignored

    def pass_over(self, *names: str) -> None:
        """Notes fields that compute nothing in this family."""
        self._read.update(names)

    def finish(self) -> None:
        """Checks that nothing is left that could change what the model computes.

        Raises:
            Unsupported: something is; names it.
        """
        left = sorted(self._unknown())
        if left:
            raise Unsupported(
                f"{FILE}: {', '.join(f'{name:.60} = {shortened(repr(self.values[name]), 40)}' for name in left[:5])}"
                f"{' and more' if len(left) > 5 else ''}: not known here, so it may change what the model computes",
                param=IGNORED,
            )

    def _unknown(self) -> Iterator[str]:
        for name, value in self.values.items():
            known = name in self._read or name in HARMLESS or name.startswith(_PRIVATE)
            # Null, false and nothing switch something off that we do not have anyway.
            if not known and value is not None and value is not False and value not in ("", [], {}):
                yield name


def shortened(text: str, longest: int) -> str:
    """A text of a stranger's of at most so many letters, and a mark where there were more; cut between two words."""
    if len(text) <= longest:
        return text
    cut = text[: longest - 2]
    return f"{cut.rpartition(' ')[0] or cut} …"


def is_number(value: object) -> TypeGuard[float]:
    """A number that a GGUF file can hold. To Python a truth value is one; not to us."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _is(value: object, due: object) -> bool:
    """Are they equal? 1 and true are not, 1 and 1.0 are."""
    return isinstance(value, bool) is isinstance(due, bool) and value == due


def _damaged(name: str, due: str, value: object) -> NoReturn:
    said = "is missing" if value is None else f"is {shortened(repr(value), 60)}"
    raise ModelDamaged(f"{FILE}: {name} {said}; it must be {due}")
