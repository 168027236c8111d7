"""What can go wrong, an exception for each of the program's kinds; `code` is the exit code that the program would have.
"""
from __future__ import annotations


class Error(Exception):
    """Anything that llvconv refuses or fails at."""
    code: int = 70
    kind: str = "internal"


class UsageError(Error, ValueError):
    """An argument or an option is wrong."""
    code, kind = 64, "usage"


class MalformedError(Error, ValueError):
    """The bytes of a file or an item break their format."""
    code, kind = 65, "malformed"


class MissingError(Error, FileNotFoundError):
    """A needed file is absent, unreadable or not a regular file."""
    code, kind = 66, "missing"


class UnsupportedError(Error, ValueError):
    """Legal, but not something llvconv does."""
    code, kind = 69, "unsupported"


class InternalError(Error, RuntimeError):
    """A mistake of llvconv; please report it."""
    code, kind = 70, "internal"


class CannotCreateError(Error, OSError):
    """The output cannot be created, or exists and `force` was not given."""
    code, kind = 73, "cannotCreate"


class IOFailure(Error, OSError):
    """Reading or writing failed half way."""
    code, kind = 74, "io"


class LimitError(Error, ValueError):
    """Over a limit of memory, size or count."""
    code, kind = 75, "limit"


BY_CODE: dict[int, type[Error]] = {
    error.code: error
    for error in (UsageError, MalformedError, MissingError, UnsupportedError, InternalError, CannotCreateError,
                  IOFailure, LimitError)
}


class BadItems(Error):
    """Some items have no vector.

    `errors` has for each bad row of the input what is wrong with it; `code` and `kind` are the first one's.
    """

    def __init__(self, errors: dict[int, Error], count: int):
        self.errors = errors
        row, first = next(iter(errors.items()))
        self.code, self.kind = first.code, first.kind
        more = f"; {len(errors)} of {count} items are bad" if len(errors) > 1 else ""
        super().__init__(f"item {row}: {first}{more}")
