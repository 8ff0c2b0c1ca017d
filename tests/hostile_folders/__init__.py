"""Hostile folders of models: named kinds, each a sound folder that was changed in one place.

:data:`~tests.hostile_folders.corpus.CORPUS` has them all; :mod:`~tests.hostile_folders.batch` converts them, each in a
process of its own.
"""
