from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localmodels.core.errors import Forbidden, InvalidValue
from localmodels.core.secrets import Secret
from localmodels.registry.addresses import Origin
from localmodels.registry.credentials import FILE, Credentials, FileCredentials, Login, MemoryCredentials

HERE = Origin.parse("https://registry.example")
PLAIN = Origin.parse("http://registry.example")
LOGIN = Login("ollie", Secret("sesame"))


@pytest.fixture(params=["memory", "file"])
def credentials(request: pytest.FixtureRequest, tmp_path: Path) -> Credentials:
    return MemoryCredentials() if request.param == "memory" else FileCredentials(tmp_path / "home" / "localmodels")


def test_a_login_is_kept_until_it_is_removed(credentials: Credentials) -> None:
    assert credentials.get(HERE) is None
    credentials.put(HERE, Login("old", Secret("older")))
    credentials.put(HERE, LOGIN)
    assert credentials.get(HERE) == LOGIN
    assert credentials.remove(HERE)
    assert credentials.get(HERE) is None
    assert not credentials.remove(HERE)


def test_a_login_for_https_is_none_for_http(credentials: Credentials) -> None:
    credentials.put(HERE, LOGIN)
    assert credentials.get(PLAIN) is None
    assert credentials.get(Origin.parse("https://registry.example:444")) is None


def test_others_are_left_alone(credentials: Credentials) -> None:
    credentials.put(HERE, LOGIN)
    credentials.put(PLAIN, Login("x", Secret("y")))
    credentials.remove(PLAIN)
    assert credentials.get(HERE) == LOGIN


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        FileCredentials(tmp_path / "made").put(HERE, LOGIN)
    finally:
        os.umask(before)
    file = tmp_path / "made" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == [FILE]
    assert FileCredentials(tmp_path / "made").get(HERE) == LOGIN


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_could_have_read_is_not_used(tmp_path: Path, mode: int) -> None:
    credentials = FileCredentials(tmp_path)
    credentials.put(HERE, LOGIN)
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(Forbidden, match="mode 600"):
        credentials.get(HERE)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("{}")
    target.chmod(0o600)
    (tmp_path / FILE).symlink_to(target)
    with pytest.raises(Forbidden, match="cannot be opened"):
        FileCredentials(tmp_path).get(HERE)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"https://registry.example": {"username": "sesame"'])
def test_a_damaged_file_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(Forbidden, match="damaged") as caught:
        FileCredentials(tmp_path).get(HERE)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_an_interrupted_write_left_does_not_disturb(tmp_path: Path) -> None:
    (tmp_path / f".{FILE}.{os.getpid()}").write_text("half")
    FileCredentials(tmp_path).put(HERE, LOGIN)
    assert FileCredentials(tmp_path).get(HERE) == LOGIN


def test_two_that_log_in_at_once_lose_nothing(tmp_path: Path) -> None:
    origins = [Origin.parse(f"https://r{i}.example") for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda origin: FileCredentials(tmp_path).put(origin, LOGIN), origins))
    assert all(FileCredentials(tmp_path).get(origin) == LOGIN for origin in origins)


@pytest.mark.parametrize(
    ("username", "password"), [("", "x"), ("x", ""), ("a:b", "x"), ("a\r\n", "x"), ("a", "x\ny"), ("a", "\x00")]
)
def test_what_cannot_be_said_in_a_header_is_no_login(username: str, password: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Login.parse(username, password)
    assert caught.value.param in {"username", "password"}
