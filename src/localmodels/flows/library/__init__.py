"""This machine's library changed: pull and push (:mod:`.transfers`), create, copy, delete (:mod:`.keeper`).

A creation finds what it is made of (:mod:`.origins`, :mod:`.source_files`), makes the files (:mod:`.build`) and
has the model answer (:mod:`.trial`). The rule: a name is given last, when all that it stands for is on disk.
"""
