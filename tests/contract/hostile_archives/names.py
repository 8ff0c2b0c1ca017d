"""Names that no file may have, as zip and tar carry them."""

from __future__ import annotations

from collections.abc import Mapping

BAD_NAMES: Mapping[str, str] = {
    "climbs out": "../evil.json",
    "climbs out twice": "../../evil.json",
    "climbs out of a folder": "a/../../evil.json",
    "climbs and comes back": "a/../config.json",
    "climbs at the end": "a/..",
    "is the folder above": "..",
    "climbs after a dot": "./../evil.json",
    "is absolute": "/opt/evil.json",
    "is absolute twice": "//opt/evil.json",
    "is a share": "//server/share/evil.json",
    "is a Windows path": "C:\\evil.json",
    "is on a drive": "C:/evil.json",
    "is beside on a drive": "C:evil.json",
    "is a Windows share": "\\\\server\\share\\evil.json",
    "climbs as on Windows": "..\\evil.json",
    "climbs in both ways": "a\\../..\\evil.json",
    "has a back-slash": "a\\b.json",
    "has a line end": "a\nb.json",
    "colours a terminal": "\x1b[31ma.json",
    "rings": "a\x07.json",
    "is deleted": "a\x7f.json",
    "reads backwards": "a\u202enosj.exe.json",
    "hides a character": "a\u200b.json",
    "begins with a mark": "\ufeffa.json",
    "has a line separator": "a\u2028b.json",
    "is private": "a\ue000.json",
    "climbs in wide dots": "．．/evil.json",
    "climbs in a two-dot character": "‥/evil.json",
    "has a wide slash": "a／evil.json",
    "has a wide back-slash": "a＼evil.json",
    "has a wide colon": "C：evil.json",
    "is care of": "a℅.json",
    "has an empty part": "a//b.json",
    "has a dot as a part": "a/./b.json",
    "is in a home": "~/evil.json",
    "is in root's home": "~root/evil.json",
    "is a device": "NUL",
    "is a device with a suffix": "con.json",
    "is a port": "a/COM1.txt",
    "is a second stream": "config.json:evil.json",
    "is a pattern": "*.json",
    "asks": "a?.json",
    "is quoted": 'a".json',
    "pipes": "a|b.json",
    "redirects": "a>b.json",
    "ends with a dot": "a./config.json",
    "ends with a space": "config.json ",
    "begins with a space": " config.json",
    "is deep": "a/b/c/d/config.json",
    "is deeper": "a/" * 40 + "x.json",
}
"""None of them is longer than a tar header has room for."""

LONG_NAMES: Mapping[str, str] = {
    "is long": "a" * 300 + ".json",
    "is very long": "a/" * 3 + "b" * 60_000 + ".json",
    "climbs far out": "../" * 100 + "evil.json",
}

TWINS: Mapping[str, tuple[str, str]] = {
    "are one": ("config.json", "config.json"),
    "differ in case": ("config.json", "Config.JSON"),
    "differ in the case of a folder": ("a/x.json", "A/y.json"),
    "are composed and not": ("caf\u00e9.json", "cafe\u0301.json"),
    "differ in width": ("config.json", "ｃonfig.json"),
    "are a ligature and two letters": ("\ufb01.json", "fi.json"),
    "are a sharp s and two": ("\u00df.json", "ss.json"),
    "are Kelvin and K": ("\u212a.json", "k.json"),
    "are file and folder": ("a.json", "a.json/b.json"),
    "are folder and file": ("a.json/b.json", "a.json"),
    "are one after a dot": ("config.json", "./config.json"),
}
