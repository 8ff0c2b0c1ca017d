"""From a request to its answer, whoever gives it: chat, generate, embed, rerank, and stored responses.

:mod:`.chat` is the way of every request; the others are its stations: several answers (:mod:`.choices`), tools,
adapters, JSON that must be JSON, conversations that are too long. The rule: what is done for a request is done
here, for every dialect alike, whoever answers; which server that is, :mod:`localmodels.flows.routing` says.
"""
