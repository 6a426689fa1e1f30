# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Speech encoding ahead of time: what of a turn can be encoded before its last sample comes.

Knows which samples a convolution frame depends on. Trusts nothing else: a frame is kept only while
every sample under it is the very one it was made of. The specification is `encoder(audio)`.
"""

import dataclasses

import torch
from torch import nn

# Frames convolved in one call. The same samples always go through the same call, so features are
# a function of the audio alone, to the last bit, in whatever pieces it came.
_BLOCK = 7


@dataclasses.dataclass
class _EncodedTurn:
    """
    One turn of a voice, as far as it was encoded.

    State schema:
        audio: float32 `[B, S]` on the CPU; all else was made of it.
        blocks: convolution features `[B, <= _BLOCK, C]` in order; none where the encoder is not
            local in time.
        features: `[B, T, Q]`; None = not wanted yet.
    """

    audio: torch.Tensor
    blocks: list[torch.Tensor]
    features: torch.Tensor | None = None


class SpeechAhead:
    """
    Encode one voice, turn by turn, doing again only what changed samples touch.

    Each turn begins as silence, which is encoded once for all of them. `listen` convolves what
    came in and may run at any time; `features` does the rest.

    Args:
        encoder: speech encoder of a model (`timar_ros.model.speech`).
        device: where its weights are.
    """

    def __init__(self, encoder: nn.Module, device: torch.device | str = 'cpu'):
        self._encoder = encoder
        self._device = torch.device(device)
        self._turns: dict[int, _EncodedTurn] = {}
        self._silence: _EncodedTurn | None = None

    @torch.inference_mode()
    def listen(self, turn: int, audio: torch.Tensor) -> None:
        """
        Bring the convolutions of a turn up to date with what was heard of it so far.

        Args:
            turn: its number.
            audio: float32 `[B, S]` on the CPU, level-normalised; 0 where nothing was heard yet.

        Raises:
            ValueError: the audio is no such tensor.
        """
        self._convolved(turn, audio)

    @torch.inference_mode()
    def features(self, turn: int, audio: torch.Tensor) -> torch.Tensor:
        """
        Encode a turn, from what earlier calls left and the samples that are new.

        Args:
            turn: its number.
            audio: as of `listen`.

        Returns:
            `[B, T, Q]`, what `encoder(audio)` gives; not to be written to.

        Raises:
            ValueError: the audio is no such tensor.
        """
        encoded = self._convolved(turn, audio)
        if encoded.features is None:
            if encoded.blocks:
                encoded.features = self._encoder.contextualise(torch.cat(encoded.blocks, dim=1))
            else:
                encoded.features = self._encoder(encoded.audio.to(self._device))
        return encoded.features

    def forget_before(self, turn: int) -> None:
        """Forget the turns before `turn`."""
        self._turns = {number: v for number, v in self._turns.items() if number >= turn}

    def _convolved(self, turn: int, audio: torch.Tensor) -> _EncodedTurn:
        if audio.dim() != 2 or audio.dtype != torch.float32 or audio.device.type != 'cpu':
            raise ValueError(
                f'audio must be float32 [B, S] on the CPU, got {str(audio.dtype)[6:]} '
                f'{list(audio.shape)} on {audio.device}'
            )
        known = self._turns.get(turn)
        if known is None or known.audio.shape != audio.shape:
            known = self._begin(audio.shape)
        if not torch.equal(known.audio, audio):
            known = self._changed(known, audio.clone())
        self._turns[turn] = known
        return known

    def _begin(self, shape: torch.Size) -> _EncodedTurn:
        if self._silence is None or self._silence.audio.shape != shape:
            audio = torch.zeros(shape)
            blocks = [self._convolve(audio[:, span]) for span in self._spans(shape[1])]
            self._silence = _EncodedTurn(audio, blocks)
        return self._silence

    def _changed(self, known: _EncodedTurn, audio: torch.Tensor) -> _EncodedTurn:
        blocks = [
            block
            if torch.equal(known.audio[:, span], audio[:, span])
            else self._convolve(audio[:, span])
            for block, span in zip(known.blocks, self._spans(audio.shape[1]), strict=True)
        ]
        return _EncodedTurn(audio, blocks)

    def _spans(self, n_samples: int) -> list[slice]:
        """Say which samples each block of convolution frames depends on."""
        if not self._encoder.is_local:
            return []
        hop, reach = self._encoder.hop, self._encoder.receptive_field
        n_frames = (n_samples - reach) // hop + 1
        return [
            slice(first * hop, (min(first + _BLOCK, n_frames) - 1) * hop + reach)
            for first in range(0, n_frames, _BLOCK)
        ]

    def _convolve(self, audio: torch.Tensor) -> torch.Tensor:
        return self._encoder.convolve(audio.to(self._device))
