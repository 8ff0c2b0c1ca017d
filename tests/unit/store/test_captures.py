"""Files that go by themselves: by age, by the bytes of all together, and never others than their own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.unit.store.full_disk import no_file_longer_than

from localmodels.core.errors import DiskFull, ModelDamaged, StoreFailed
from localmodels.store.captures import SECOND, CaptureFiles, ended_at, name_of

START = 1_795_000_000  # seconds since 1970, in November 2026


def name(second: float, request_id: str = "req_1") -> str:
    return name_of(int((START + second) * SECOND), request_id)


def kept(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "captures"


def test_a_name_says_when_its_answer_ended() -> None:
    assert name_of(1_795_000_000_000_000_042, "my-own.id_1") == "20261118T110640.000000042Z-my-own.id_1.json"
    assert ended_at(name(0.5)) == START + 0.5


@pytest.mark.parametrize(
    "other",
    [
        "notes.json",
        "20261118T110640.000000042Z-.json",
        "20261399T110640.000000042Z-x.json",
        "x" + name(0),
        name(0) + "x",
    ],
)
def test_other_names_are_no_captures(other: str) -> None:
    assert ended_at(other) is None


def test_names_are_in_the_order_of_time() -> None:
    names = [name(second, request_id) for second, request_id in ((0.001, "z"), (0.9, "a"), (1, "b"), (3600, "a"))]
    assert sorted(names) == names


def test_nobody_else_may_read_it(directory: Path) -> None:
    CaptureFiles(directory).keep(name(0), b"{}", 100)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / name(0)).stat().st_mode) == 0o600
    assert (directory / name(0)).read_bytes() == b"{}"


def test_the_oldest_go_when_all_together_are_too_large(directory: Path) -> None:
    files = CaptureFiles(directory)
    for second in range(5):
        files.keep(name(second), b"x" * 10, 30)
    assert kept(directory) == [name(2), name(3), name(4)]
    assert files.held == 30


def test_one_that_is_larger_than_all_may_be_is_refused_and_the_others_stay(directory: Path) -> None:
    files = CaptureFiles(directory)
    files.keep(name(0), b"x" * 30, 30)
    with pytest.raises(DiskFull, match="may have, 30"):
        files.keep(name(1), b"x" * 31, 30)
    assert kept(directory) == [name(0)]


def test_a_smaller_quota_counts_at_once(directory: Path) -> None:
    files = CaptureFiles(directory, lambda: START + 9.0)
    for second in range(5):
        files.keep(name(second), b"x" * 10, 100)
    files.expire(100.0, 20)
    assert kept(directory) == [name(3), name(4)]
    assert files.held == 20


def test_the_old_go_and_those_of_an_earlier_process_too(directory: Path) -> None:
    earlier = CaptureFiles(directory)
    for second in (0, 50, 100):
        earlier.keep(name(second), b"x" * 10, 1000)
    files = CaptureFiles(directory, lambda: START + 150.0)
    files.expire(100.0, 1000)  # exactly as old as allowed stays
    assert kept(directory) == [name(50), name(100)]
    assert files.held == 20
    files.keep(name(149), b"y", 1000)
    files.expire(50.0, 1000)
    assert kept(directory) == [name(100), name(149)]
    assert files.held == 11


def test_with_no_time_at_all_everything_goes(directory: Path) -> None:
    CaptureFiles(directory).keep(name(10**6), b"x", 100)  # of a clock that went back since
    CaptureFiles(directory).keep(name(0), b"x", 100)  # of this very moment
    (directory / "notes.txt").write_text("mine")
    files = CaptureFiles(directory, lambda: float(START))
    files.expire(0, 100)
    assert kept(directory) == ["notes.txt"]
    assert files.held == 0


def test_a_clock_that_goes_back_keeps_nothing_for_ever_and_holds_up_nobody(directory: Path) -> None:
    files = CaptureFiles(directory, lambda: float(START))
    for second in (3600, 5, -50):
        files.keep(name(second), b"x", 1000)
    files.expire(10.0, 1000)
    assert kept(directory) == [name(5)]


def test_where_there_is_nothing_nothing_is_made(directory: Path) -> None:
    CaptureFiles(directory).expire(0, 100)
    CaptureFiles(directory.parent / "no" / "home").expire(0, 100)
    assert not directory.exists()


def test_what_its_owner_has_removed_is_gone(directory: Path) -> None:
    files = CaptureFiles(directory)
    files.keep(name(0), b"x" * 10, 100)
    (directory / name(0)).unlink()
    files.expire(0, 100)
    assert files.held == 0


def test_when_its_owner_has_removed_all_of_it_nothing_is_held(directory: Path) -> None:
    files = CaptureFiles(directory)
    files.keep(name(0), b"x" * 10, 100)
    (directory / name(0)).unlink()
    directory.rmdir()
    files.expire(60, 100)
    assert files.held == 0
    files.keep(name(1), b"x", 100)
    assert kept(directory) == [name(1)]


def test_one_that_cannot_be_removed_holds_up_no_other(directory: Path) -> None:
    files = CaptureFiles(directory, lambda: START + 100.0)
    for second in range(3):
        files.keep(name(second), b"x" * 10, 30)
    (directory / name(0)).unlink()
    (directory / name(0)).mkdir()
    files.keep(name(3), b"x" * 20, 30)
    assert kept(directory) == [name(0), name(2), name(3)]
    with pytest.raises(ModelDamaged, match="not what should lie here"):
        files.expire(10, 100)
    assert kept(directory) == [name(0)]
    (directory / name(0)).rmdir()
    files.expire(10, 100)
    assert files.held == 0


def test_a_planted_link_is_no_capture_and_is_not_followed(directory: Path, tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_text("mine")
    directory.mkdir()
    (directory / name(0)).symlink_to(secret)
    (directory / name(1)).mkdir()
    files = CaptureFiles(directory)
    files.keep(name(2), b"x", 1)
    with pytest.raises(StoreFailed):
        files.keep(name(0), b"x", 100)
    files.expire(0, 100)
    assert secret.read_text() == "mine"
    assert kept(directory) == [name(0), name(1)]


def test_a_directory_that_is_a_link_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="a link"):
        CaptureFiles(directory).keep(name(0), b"x", 100)
    assert kept(tmp_path / "elsewhere") == []


def test_a_full_disk_keeps_no_half(directory: Path) -> None:
    files = CaptureFiles(directory)
    with no_file_longer_than(50), pytest.raises(DiskFull, match="req_1"):
        files.keep(name(0), b"x" * 100, 1000)
    assert kept(directory) == []
    assert files.held == 0
    files.keep(name(0), b"x", 1000)
