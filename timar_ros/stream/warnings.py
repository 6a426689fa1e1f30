# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Texts of one voice that a node should log: in which order, and which of them wait.

Responsible for keeping what a wrongly stated rate may explain until it is known whether it does.
Not for noticing anything.
"""

from timar_ros.stream.stated_rate import StatedRate

_MOST = 16


class Warnings:
    """
    Collect the warnings of one voice.

    Args:
        role: 'user' or 'agent', the beginning of each text.
        watch: knows whether the stated rate is, or may be, wrong.
    """

    def __init__(self, role: str, watch: StatedRate):
        self._role, self._watch = role, watch
        self._texts: dict[str, bool] = {}  # text -> whether a wrong rate may explain it

    def add(self, text: str) -> None:
        """Take a text, without the voice, once."""
        self._add(text, False)

    def add_explicable(self, text: str) -> None:
        """Take a text where a wrong rate or number of channels may be all that it is due to."""
        self._add(text, True)

    def explain(self, text: str) -> None:
        """Take a text that explains what waits, which is not said then."""
        self._texts = {each: waits for each, waits in self._texts.items() if not waits}
        self._add(text, False)

    def take(self, is_end: bool = False) -> list[str]:
        """
        Return the texts since the last call, oldest first.

        Args:
            is_end: nothing will follow, so that nothing waits.
        """
        watch = self._watch
        kept = {}
        if not is_end and (watch.is_new or watch.may_be_wrong):
            kept = {text: True for text, waits in self._texts.items() if waits}
        texts = [text for text in self._texts if text not in kept]
        self._texts = kept
        return texts

    def _add(self, text: str, is_explicable: bool) -> None:
        text = f'{self._role} audio: {text}'
        if text not in self._texts and len(self._texts) < _MOST:
            self._texts[text] = is_explicable
