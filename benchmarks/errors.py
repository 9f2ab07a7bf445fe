"""What can go wrong in words."""


class InputError(ValueError):
    """What the user gave cannot be used; the message says why and what to do."""


class MismatchError(AssertionError):
    """A contender computes something else; its time would say nothing."""


class NotApplicableError(Exception):
    """The contender has no such cell, mode or device; the message says which."""
