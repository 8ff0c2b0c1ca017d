"""All hostile folders by name."""

from __future__ import annotations

from tests.hostile_folders import adapters, configs, disguises, heads, tokenizers
from tests.hostile_folders.kinds import Corpus

CORPUS: Corpus = {
    **heads.corpus(),
    **configs.corpus(),
    **tokenizers.corpus(),
    **adapters.corpus(),
    **disguises.corpus(),
}
CUT: Corpus = heads.truncations()
