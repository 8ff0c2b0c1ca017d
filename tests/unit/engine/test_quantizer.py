from __future__ import annotations

from pathlib import Path

from localmodels.artifacts.quantize import Job
from localmodels.engine.quantizer import policy


def test_the_child_may_read_its_source_and_write_nothing(tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.touch()
    (tmp_path / "other.gguf").touch()
    rights = policy(Job(str(source), "Q4_0", 1))
    assert str(source) in rights.read
    assert not [path for path in rights.read if Path(path) in source.parents]
    assert (rights.write, rights.execute, rights.browse) == ((), (), ())
    assert not rights.network
    assert not rights.may_exec
    assert rights.max_file_size == 0
