"""Go's text/template, as far as models use it: read once, rendered often, and never at more than a known cost.

Whoever makes a model writes its template, so it is a program of somebody else's (threats V-13, V-14). It is therefore
not handed to a general engine: it is read into a tree (:mod:`.lexer`, :mod:`.parser`, :mod:`.nodes`) and run by
:mod:`.evaluator` on values of seven types (:mod:`.values`) with the functions of one table (:mod:`.functions`), and
everything it does is counted (:mod:`.limits`).
"""

from localmodels.artifacts.gotemplate.evaluator import Program
from localmodels.artifacts.gotemplate.functions import NAMES
from localmodels.artifacts.gotemplate.limits import Limits
from localmodels.artifacts.gotemplate.nodes import Tree
from localmodels.artifacts.gotemplate.parser import parse

__all__ = ["NAMES", "Limits", "Program", "Tree", "parse"]
