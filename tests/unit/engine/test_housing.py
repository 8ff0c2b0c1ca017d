"""Where runners live, and what a killed server left behind."""

from pathlib import Path

from localmodels.engine.housing import LOCK, PREFIX, Housing


def test_what_a_killed_server_left_is_removed_and_a_living_one_is_not_touched(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}killed"
    (left / "r1").mkdir(parents=True)
    (left / LOCK).touch()
    (left / "r1" / "slot-0-1").write_bytes(b"a prompt")
    stranger = tmp_path / f"{PREFIX}without-a-lock"
    stranger.mkdir()
    living = Housing(tmp_path)
    other = Housing(tmp_path)
    assert not left.exists()
    assert stranger.exists()
    assert living.root.exists()
    assert living.root != other.root
    living.close()
    other.close()
    assert not living.root.exists()


def test_a_room_is_its_runners_alone(tmp_path: Path) -> None:
    housing = Housing(tmp_path)
    room = housing.room("r1")
    assert room == housing.place("r1")
    assert room.stat().st_mode & 0o777 == 0o700
    housing.close()
