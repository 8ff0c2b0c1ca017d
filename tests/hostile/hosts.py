"""Ways to say to whom a request is sent and from which page it comes (threats V-29 and V-30).

``{port}`` stands for the port of the server that is asked. The gate's own tests take the texts; over sockets each is a
whole request.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.attack import Attack, request

ALLOWED = "gpu-box.lan"

OURS = (
    "localhost",
    "LOCALHOST:{port}",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:{port}",
    "[::1]",
    "[::1]:{port}",
)
ALLOWED_SPELLINGS = (ALLOWED, f"{ALLOWED.title()}:{{port}}", f"{ALLOWED}:1", f"{ALLOWED}.:65535")

OTHER_NAMES = (
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "127.0.0.2",
    "0.0.0.0:{port}",
    "[::]",
    "[::ffff:127.0.0.1]:{port}",
    "[0:0:0:0:0:0:0:1]",
    "[::1%25lo]",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "127.1",
    "127.0.0.1..",
    "user@localhost@evil.example",
    "localhost@evil.example",
    "user:word@localhost",
    "localhost%00.evil.example",
    "localhost%2eevil.example",
    "xn--lcalhost-n2a",
    "localhost\u00ad",
    "gpu-box.lan.evil.example",
    "anything.local",
    "anything.internal",
    "host.docker.internal",
    "169.254.169.254",
    "192.168.1.10",
    "",
    ":{port}",
    " ",
    "[::1]evil.example",
    "[localhost]",
    "127.0.0.1:evil.example",
    "localhost:{port}:{port}",
    "localhost:",
    "localhost:-1",
    "localhost:+{port}",
    "localhost: {port}",
    "localhost:{port}, localhost:{port}",
    "localhost:{port} evil.example",
    "http://localhost:{port}",
    "localhost/",
    "localhost#",
    "localhost?",
    "localhost\\evil.example",
)
OTHER_PORTS = ("localhost:1", "127.0.0.1:0", "[::1]:1", "localhost:80", "localhost:65536", "localhost:99999")

OUR_PAGES = ("http://localhost:{port}",)
OTHER_PAGES = (
    "null",
    "file://",
    "https://evil.example",
    "http://evil.example:{port}",
    "http://localhost:3000",
    "https://localhost:{port}",
    "http://localhost",
    "http://127.0.0.1:{port}",
    "http://localhost:{port}.evil.example",
    "http://localhost:{port}@evil.example",
    "http://localhost:{port}/",
    "http://localhost:{port} http://evil.example",
    "*",
    "",
    "app://obsidian.md",
    "tauri://localhost",
    "chrome-extension://abcdefghijklmnop",
    "vscode-webview://1",
)

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
TARGETS = ("/api/tags", "/v1/models", "/api/delete", "/api/pull", "/health", "/metrics", "/nothing")


def attacks(port: int) -> Iterator[Attack]:
    """Each of them as a request that must be refused."""
    refused = (400, 421)
    for number, spelling in enumerate((*OTHER_NAMES, *OTHER_PORTS)):
        host = spelling.format(port=port).encode("latin-1")
        method, target = METHODS[number % len(METHODS)], TARGETS[number % len(TARGETS)]
        yield Attack("V-29 Host", spelling, request(port, method, target, host=host), refused)
    here = f"localhost:{port}".encode()
    for spelling in OTHER_NAMES:
        authority = spelling.format(port=port).replace(" ", "").encode("ascii", "ignore")
        if authority in {b"localhost", here}:
            continue
        for host in (here, authority):  # the target means somebody else than Host, or both do
            sent = request(port, "GET", f"http://{authority.decode()}/api/tags", host=host)
            yield Attack("V-29 absolute-form", f"{spelling} over {host.decode()}", sent, (*refused, 404))
    for pair in ((here, b"evil.example"), (b"evil.example", here), (here, here)):
        headers = [(b"Host", pair[1])]
        yield Attack("V-29 two hosts", str(pair), request(port, "GET", "/", host=pair[0], headers=headers), refused)
    yield Attack("V-29 no host", "none", b"GET /api/tags HTTP/1.1\r\nConnection: close\r\n\r\n", refused)
    for method in METHODS:
        for page in OTHER_PAGES:
            headers = [(b"Origin", page.format(port=port).encode())]
            target = TARGETS[len(page) % len(TARGETS)]
            yield Attack("V-30 Origin", f"{method} {page}", request(port, method, target, headers=headers), (403,))
        headers = [(b"Sec-Fetch-Site", b"cross-site")]
        yield Attack("V-30 cross-site", method, request(port, method, "/api/delete", headers=headers), (403,))
