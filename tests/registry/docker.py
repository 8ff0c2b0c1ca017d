"""The real registry of Debian's ``docker-registry``, on a loopback port over an empty directory."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = shutil.which("docker-registry")
ABSENT = "docker-registry is not installed (Debian's package of that name)"

# `ollie` with the password `sesame`, as `htpasswd -B` writes it; the registry takes no other kind.
HTPASSWD = "ollie:$2y$05$5pNs3tl6DedaUx6wVzn03.T1hzF3DDZL1CAAvuP/dtMM19bijT/tO\n"
_LISTENS = re.compile(rb"listening on 127\.0\.0\.1:([0-9]+)")

CONFIG = """
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{root}/data"}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:0", secret: "of the tests"}}
"""
AUTH = """
auth:
  htpasswd: {{realm: tests, path: "{root}/htpasswd"}}
"""


@contextmanager
def docker_registry(root: Path, *, login: bool) -> Iterator[str]:
    """A running registry's ``http://127.0.0.1:port``."""
    assert PROGRAM
    (root / "htpasswd").write_text(HTPASSWD)
    config = root / "config.yml"
    config.write_text((CONFIG + (AUTH if login else "")).format(root=root))
    with subprocess.Popen(
        [PROGRAM, "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"OTEL_SDK_DISABLED": "1"},
    ) as process:
        try:
            yield f"http://127.0.0.1:{_port(process)}"
        finally:
            process.terminate()


def _port(process: subprocess.Popen[bytes]) -> int:
    """Waits until it listens; what it says afterwards is thrown away, so that it never waits for a reader."""
    assert process.stderr
    said = b""
    for line in process.stderr:
        said += line
        if found := _LISTENS.search(line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return int(found[1])
    raise RuntimeError(f"docker-registry did not start: {said.decode(errors='replace')[-500:]}")
