from __future__ import annotations

from pathlib import Path

from localmodels.artifacts.archive import Job
from localmodels.engine.extractor import policy


def test_the_child_may_read_the_archive_and_write_nothing(tmp_path: Path) -> None:
    for name in ("upload.zip", "other"):
        (tmp_path / name).touch()
    rights = policy(Job(str(tmp_path / "upload.zip"), "upload.zip", 1))
    assert str(tmp_path / "upload.zip") in rights.read
    assert not [place for place in rights.read if Path(place) in (tmp_path, tmp_path / "other", *tmp_path.parents)]
    assert (rights.write, rights.execute, rights.browse) == ((), (), ())
    assert not rights.network
    assert not rights.may_exec
    assert rights.max_file_size == 0
