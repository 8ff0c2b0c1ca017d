"""Numbers with a point, in Go's spelling. The rule: the shortest digits that read back as the same number."""

from __future__ import annotations

import math


def shortest(number: float) -> str:
    """As ``%v`` and ``%g``: with an exponent below 1e-4 and from 1e6 on."""
    if not math.isfinite(number):
        return _endless(number)
    if number and not 1e-4 <= abs(number) < 1e6:
        return _with_exponent(number)
    return all_digits(number)


def fixed(number: float, verb: str, precision: int) -> str:
    """As ``%e``, ``%f`` or ``%g`` with so many digits."""
    if not math.isfinite(number):
        return _endless(number)
    return f"%.{precision}{verb}" % number


def all_digits(number: float) -> str:
    """The shortest digits, never with an exponent."""
    text = repr(number)
    if "e" not in text:
        return text.removesuffix(".0")
    sign = "-" if text[0] == "-" else ""
    mantissa, exponent = text.lstrip("-").split("e")
    whole, _, rest = mantissa.partition(".")
    digits, point = whole + rest, len(whole) + int(exponent)
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[:point].ljust(point, '0')}" + (f".{digits[point:]}" if digits[point:] else "")


def _with_exponent(number: float) -> str:
    text = repr(number)
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent):+03d}"
    digits = all_digits(abs(number)).replace(".", "").strip("0")
    mantissa = digits[0] + (f".{digits[1:]}" if digits[1:] else "")
    sign = "-" if number < 0 else ""
    return f"{sign}{mantissa}e{len(str(int(abs(number)))) - 1:+03d}"


def _endless(number: float) -> str:
    return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
