"""A back end that does what a script says: as a value (:class:`Fake`) and as an HTTP server (:class:`FakeServer`).

It ships with the package because it is as useful to those who build on LocalModels as to our own tests:
``python -m localmodels.backends.fake`` serves one by hand.
"""

from localmodels.backends.fake.backend import Fake
from localmodels.backends.fake.book import Book, Visit
from localmodels.backends.fake.script import Break, Failure, Page, Script, Wire
from localmodels.backends.fake.server import FakeServer

__all__ = ["Book", "Break", "Failure", "Fake", "FakeServer", "Page", "Script", "Visit", "Wire"]
