from __future__ import annotations

from pathlib import Path

from localmodels.artifacts.convert import Job
from localmodels.engine.converter import policy


def test_the_child_may_read_what_its_job_names_and_write_nothing(tmp_path: Path) -> None:
    for name in ("config.json", "adapter_config.json", "base.gguf", "other.gguf"):
        (tmp_path / name).touch()
    path = {name: str(tmp_path / name) for name in ("config.json", "adapter_config.json", "base.gguf")}
    files, adapter = {"config.json": path["config.json"]}, {"adapter_config.json": path["adapter_config.json"]}
    rights = policy(Job(files, "", "m", 1, adapter=adapter, base=(path["base.gguf"],)))
    assert set(path.values()) <= set(rights.read)
    assert not [place for place in rights.read if Path(place) in (tmp_path, *tmp_path.parents)]
    assert (rights.write, rights.execute, rights.browse) == ((), (), ())
    assert not rights.network
    assert not rights.may_exec
    assert rights.max_file_size == 0
