"""Names that a reader types: found, or the nearest one named."""

import difflib
import reprlib
from collections.abc import Collection


def one_of(what: str, value: str, valid: Collection[str]) -> str:
    """Return `value` if it is among the `valid` names; else a ValueError names the nearest."""
    if value in valid:
        return value
    # What YAML's aliases have folded into a few lines may be longer than the memory.
    shown = repr(value) if isinstance(value, str) else reprlib.repr(value)[:100]
    near = difflib.get_close_matches(shown.strip("'"), valid, n=1, cutoff=0.57)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {shown}.{hint} Valid: {', '.join(valid)}.")
