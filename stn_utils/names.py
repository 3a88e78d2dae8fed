"""Names that a reader types: found, or the nearest one named."""

import difflib
from collections.abc import Collection


def one_of(what: str, value: str, valid: Collection[str]) -> str:
    """Return `value` if it is among the `valid` names; else a ValueError names the nearest."""
    if value in valid:
        return value
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.57)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {value!r}.{hint} Valid: {', '.join(valid)}.")
