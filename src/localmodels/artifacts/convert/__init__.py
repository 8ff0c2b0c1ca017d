"""Folders of fine-tuned models become GGUF files: :class:`Converter` makes one of another in a child.

Inside the child: a :class:`~.folder.Folder` is read, a family (:mod:`.families`) says which tensors the file consists
of, the vocabulary (:mod:`.vocab`) comes beside them, :func:`~.plan.plan` says what the file will be, and a
:class:`~.work.Work` gives its bytes. Nothing of the folder is executed, and nothing is guessed: what is not known to be
computed as the model was trained to is refused by name.
"""

from localmodels.artifacts.convert.job import Job, Outline
from localmodels.artifacts.convert.process import Converter

__all__ = ["Converter", "Job", "Outline"]
