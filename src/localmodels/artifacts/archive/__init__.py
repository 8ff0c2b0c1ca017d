"""Uploaded archives become files: :class:`Extractor` reads one in a child, which decides about every entry.

Inside the child: what the file is, its first bytes say, whatever it is called (:mod:`.child`). A reader (:mod:`.zips`,
:mod:`.tars` over :mod:`.streams`) walks over its entries and believes none of the numbers in it; :mod:`..file_names`
says which names are good, :mod:`..model_files` and :mod:`.kinds` what may be a part of a model, and :mod:`.limits` how
much is too much. It walks twice: :func:`~.survey.survey` looks at every entry, and only when all are good the second
walk gives their bytes. One bad entry refuses the archive, and nothing is ever mended: who sends ``../x`` does not get
an ``x``.
"""

from localmodels.artifacts.archive.job import Job, Outline
from localmodels.artifacts.archive.process import Extractor
from localmodels.artifacts.archive.transcript import Entry
from localmodels.artifacts.file_names import checked_name

__all__ = ["Entry", "Extractor", "Job", "Outline", "checked_name"]
