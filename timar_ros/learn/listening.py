# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Command-line options for what a recording does not state: which channel is heard, and its format.

Responsible for their names, texts and errors, the same in every command. Not for what they do.
"""

import argparse

from timar_ros.stream.audio import AudioFormat, format_from_text
from timar_ros.stream.bag_conversation import Listening
from timar_ros.stream.channels import MEAN, parse_channel

_VOICES = ('user', 'agent')


def add_listening_options(parser: argparse.ArgumentParser, has_formats: bool = False) -> None:
    """
    Add the options `--user-channel` and `--agent-channel`.

    Args:
        parser: of the command.
        has_formats: it reads bags: add `--user-format` and `--agent-format` as well.
    """
    for voice in _VOICES:
        parser.add_argument(
            f'--{voice}-channel',
            type=_option(parse_channel),
            default=MEAN,
            metavar='CHANNEL',
            help=f"of the {voice} that is heard: 'mean' of all (default), or an index from 0 on",
        )
    for voice in _VOICES if has_formats else ():
        parser.add_argument(
            f'--{voice}-format',
            type=_option(format_from_text),
            metavar='FORMAT',
            help=f"of a bag's messages of the {voice} that do not state theirs: encoding, rate in "
            'Hz and channels, such as S16LE,16000,1',
        )


def channels_of(options: argparse.Namespace) -> dict[str, str | int]:
    """Return the channel that is heard of each voice."""
    return {voice: getattr(options, f'{voice}_channel') for voice in _VOICES}


def listening_of(options: argparse.Namespace) -> Listening:
    """Return what the options say of a bag's voices."""
    formats: dict[str, AudioFormat] = {
        voice: stated for voice in _VOICES if (stated := getattr(options, f'{voice}_format'))
    }
    return Listening(channels=channels_of(options), formats=formats)


def _option(read):
    """Return a reader of an option's text, whose errors are argparse's."""

    def convert(text: str):
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
