# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Responsible for how much memory a message of any type takes, and for the limit."""

from timar_ros.bounds import MAX_VOICE_MESSAGE_BYTES

_OWN_BYTES = 1000  # the object itself, about
_MAX_BYTES = MAX_VOICE_MESSAGE_BYTES + 100_000  # with what is not sound


def held_bytes(value) -> int:
    """
    Return about how many bytes a message, or a field of one, holds.

    Looks at the first element of a list only, so that a message of any size costs little.
    """
    if hasattr(value, 'get_fields_and_field_types'):
        names = value.get_fields_and_field_types()
        return _OWN_BYTES + sum(held_bytes(getattr(value, name)) for name in names)
    if hasattr(value, 'nbytes'):  # NumPy
        return value.nbytes
    try:
        n = len(value)
    except TypeError:
        return 0  # a number: counted with its message
    if not n or isinstance(value, str | bytes | bytearray):
        return n
    if hasattr(value, 'itemsize'):  # array.array
        return n * value.itemsize
    return n * max(held_bytes(value[0]), 8)


def too_large(n_bytes: int) -> str:
    """Return why a message of this size is too large for a voice; '' if it is not."""
    if n_bytes <= _MAX_BYTES:
        return ''
    return (
        f'a message may hold {MAX_VOICE_MESSAGE_BYTES / 1e6:.0f} MB, got {n_bytes / 1e6:.9g} MB; '
        'send the sound in several messages'
    )
