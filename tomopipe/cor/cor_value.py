"""A centre of rotation (COR) as text and number: unbinned detector pixels, 0-based."""

import math
import re
from dataclasses import dataclass
from functools import cache

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

_WITH_COMMA = re.compile(r"^([+-]?\d+),(\d{1,2})$", re.ASCII)

_ROUNDING_PX = 1e-6


def is_valid(cor_px: float | None, n_cols: int) -> bool:
    """Tell whether a COR is finite and on the detector, 0 <= cor_px <= n_cols - 1.

    Parameters
    ----------
    cor_px : float or None
        Column of the unbinned detector, counted from 0.
    n_cols : int
        Columns of the detector.

    Returns
    -------
    bool
        False for None, too.
    """
    return cor_px is not None and math.isfinite(cor_px) and 0 <= cor_px <= n_cols - 1


@dataclass(frozen=True)
class CorText:
    """A COR as text, such as "1024.50", typed by a person or written by a program."""

    text: str = ""

    @property
    def px(self) -> float | None:
        """The number; None for an empty text and for junk: words, "1024,5", "nan", "inf".

        White space around it does not matter.
        """
        return px_of(self.text)

    def px_on(self, n_cols: int | None) -> float | None:
        """Return the number if it is on the detector (of unknown width: any number), else None."""
        if self.px is None or n_cols is None or is_valid(self.px, n_cols):
            return self.px
        return None

    def fault(self, n_cols: int | None) -> str:
        """Say why the text is no COR of this detector; "" if it is one, or empty."""
        if not self.text.strip() or self.px_on(n_cols) is not None:
            return ""
        if self.px is None or n_cols is None:
            return f"{shown(self.text)} is not a number"
        return off_detector(self.px, n_cols)


NO_TEXT = CorText()


def typed_cor(text: str) -> CorText:
    """Return a COR that a person types, also with a comma before one or two decimals.

    Before three it may separate thousands.
    """
    return CorText(_WITH_COMMA.sub(r"\1.\2", text.strip()))


@cache  # a text appears in several tables
def px_of(text: str) -> float | None:
    """Return the number of a `CorText`."""
    text = text.strip().strip("\ufeff")
    cor_px = float(text) if _NUMBER.fullmatch(text) else math.nan
    return cor_px if math.isfinite(cor_px) else None


def format_cor(cor_px: float | None) -> str:
    """Write a COR with two decimals.

    Parameters
    ----------
    cor_px : float or None
        Column of the whole, unbinned detector, counted from 0.

    Returns
    -------
    str
        Such as "1024.50"; empty for None and NaN.
    """
    if cor_px is None or math.isnan(cor_px):
        return ""
    return f"{cor_px + 0.0:.2f}"  # + 0.0: no "-0.00"


def with_error(cor_px: float, error_px: float | None) -> str:
    """Write a COR with its error, both to the first digit of the error: 84.9 ± 7 px."""
    if error_px is None:
        return f"{format_cor(cor_px)} px, error unknown"
    if error_px >= 1:
        return f"{cor_px:.1f} ± {math.ceil(error_px - _ROUNDING_PX)} px"
    return f"{cor_px:.2f} ± {math.ceil(10 * (error_px - _ROUNDING_PX)) / 10:.1f} px"


def format_confidence(confidence: float, limit: float) -> str:
    """Write a confidence with two decimals; with more if they would make it 1 or meet the limit."""
    for digits in range(2, 8):
        text = f"{confidence:.{digits}f}"
        if all((float(text) < most) == (confidence < most) for most in (limit, 1.0)):
            return text
    return repr(confidence)


def same_cor(first_px: float | None, second_px: float | None) -> bool:
    """Tell whether two CORs are the same as results write them, with two decimals.

    Parameters
    ----------
    first_px, second_px : float or None
        Columns of the whole, unbinned detector.

    Returns
    -------
    bool
        True if their texts are equal: so are None and NaN.
    """
    return format_cor(first_px) == format_cor(second_px)


def signed(shift_px: float) -> str:
    """Write a shift with its sign and two decimals.

    Parameters
    ----------
    shift_px : float
        Any distance, in pixels.

    Returns
    -------
    str
        Such as +0.30; none is -0.00.
    """
    return f"{round(shift_px, 2) + 0.0:+.2f}"


def off_detector(cor_px: float, n_cols: int) -> str:
    """Describe a COR that is not on the detector.

    Parameters
    ----------
    cor_px : float
        Column of the unbinned detector, counted from 0.
    n_cols : int
        Columns of the detector.

    Returns
    -------
    str
        The value, and the columns that there are.
    """
    text = f"{cor_px:.2f}"
    text = f"{cor_px}" if is_valid(float(text), n_cols) else text
    return f"{text} is off the detector (0 to {n_cols - 1})"


def shown(text: str) -> str:
    """Quote invalid text for a message, on one line and not too long.

    Parameters
    ----------
    text : str
        As a person typed it.

    Returns
    -------
    str
        In quotation marks, without line breaks; what follows 40 characters is "...".
    """
    return repr(text if len(text) <= 40 else text[:40] + "...")
