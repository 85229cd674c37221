"""What a user did wrong, in one sentence: the command line prints it and ends with exit code 2."""

__all__ = ["BitlineError"]


class BitlineError(Exception):
    """A wrong request, named in one clear sentence; the state of every device is as it was."""
