"""How much is too much.

The rule: bytes are counted as they come out; what an archive says of itself only ends it sooner.

A compressed byte may become 200; weights, even those of a tokenizer as JSON, stay below 20, and only what is made to
fill a disk needs more (deflate reaches 1,032, zstd 40,000).
"""

from __future__ import annotations

from localmodels.core.errors import InvalidRequest, TooLarge

MOST_ENTRIES = 10_000
RATIO = 200
RATIO_FROM = 2**20  # bytes that may come out of anything: a file of zeros is no attack
CHUNK = 256 * 1024  # what is moved at once; fits the cache of any processor
# Compressed data that hold less than they are: deflate adds 5 bytes in 16 KiB at least, and 1/16 with a poor encoder.
WASTE_SHARE, WASTE_FREE = 8, 2048


def check_entries(count: int) -> None:
    """Refuses an archive of more entries, folders and what is passed over among them.

    Raises:
        TooLarge: there are.
    """
    if count > MOST_ENTRIES:
        raise TooLarge(
            f"the archive has more than {MOST_ENTRIES:,} entries; a model has some hundred: pack its folder alone"
        )


def check_ratio(what: str, made: int, consumed: int) -> None:
    """Refuses what grows too much.

    Args:
        what: for the error.
        made: bytes that came out, or will.
        consumed: compressed bytes that they came from.

    Raises:
        TooLarge: it does.
    """
    if made > RATIO_FROM and made > RATIO * consumed:
        raise TooLarge(
            f"{what} becomes more than {RATIO} times as large when it is unpacked, as no weights do; "
            "if it is sound, pack it uncompressed (zip -0, or a plain .tar)"
        )


def check_waste(what: str, made: int, consumed: int) -> None:
    """Refuses compressed data that hold (almost) nothing: they cost time and become no bytes.

    Raises:
        InvalidRequest: it is so.
    """
    if consumed > made + made // WASTE_SHARE + WASTE_FREE:
        raise InvalidRequest(f"{what} is compressed to more bytes than it has; pack it anew")


def check_quota(made: int, most: int) -> None:
    """Refuses more bytes than may come out.

    Raises:
        TooLarge: there are.
    """
    if made > most:
        raise TooLarge(
            f"the archive holds more than the {most:,} bytes that may be unpacked here; free space, or upload less"
        )
