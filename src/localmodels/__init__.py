"""LocalModels: run, convert, serve and route language models on your own machines.

The package root stays empty of imports so that ``import localmodels`` costs nothing; the version is the
only public name here. Where things live is told in ``docs/design.md``.
"""

__version__ = "0.1.0"
