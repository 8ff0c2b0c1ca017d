"""What the system does, free of HTTP: a sub-package a subject.

Who stands lower imports nobody above (pyproject.toml); what all share is here: a request's :mod:`.visit`, and the
:mod:`.metric` that every part tells of itself.
"""
