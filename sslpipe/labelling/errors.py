"""Errors of the page's requests; each is one line for the person."""

from sslpipe.io.errors import UserError


class RefusedError(UserError):
    """An action that makes no sense in the present state, such as a name that means "no label"."""


class NotThereError(UserError):
    """A group or an image that does not exist."""
