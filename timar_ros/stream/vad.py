# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Who speaks: silero-vad, a small recurrent network, run in its ONNX form on one thread.

The weights come with the package `silero-vad` (MIT), of which no code is used: it would import
torchaudio. Samples go in at their own loudness, not normalised: silence must look like silence.
"""

import dataclasses
import importlib.util
import pathlib

import numpy as np

from timar_ros.stream.resample import SAMPLE_RATE_HZ

# The network takes 512 samples at 16 kHz at a time, and the 64 before them.
WINDOW = 512
WINDOW_S = WINDOW / SAMPLE_RATE_HZ
_CONTEXT = 64
_MEMORY = (2, 1, 128)


@dataclasses.dataclass(frozen=True)
class Hysteresis:
    """
    When a voice starts and stops speaking; windows are 32 ms.

    Attributes:
        start: probability from which on a window may begin speech.
        stop: probability below which a window may end it; less than `start`.
        min_speech_ms: how long consecutive windows must reach `start`.
        min_silence_ms: how long consecutive windows must stay below `stop`.
    """

    start: float = 0.5
    stop: float = 0.35
    min_speech_ms: int = 64
    min_silence_ms: int = 224

    def __post_init__(self):
        if not 0 <= self.stop <= self.start <= 1:
            raise ValueError(
                f'expected 0 <= stop <= start <= 1, got stop {self.stop} and start {self.start}'
            )


@dataclasses.dataclass(frozen=True)
class SpeechState:
    """
    What the detector remembers of one voice; a new one for each conversation.

    Attributes:
        probability: of speech, in the last whole window; 0 before the first.
        is_speaking: by hysteresis.
        n_turning: windows in a row that speak against `is_speaking`.
        memory: float32 `[2, 1, 128]`, the network's.
        heard: float32 `[64 + n]`, samples of the last window and those of the one to come.
    """

    probability: float = 0.0
    is_speaking: bool = False
    n_turning: int = 0
    memory: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(_MEMORY, np.float32), compare=False
    )
    heard: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(_CONTEXT, np.float32), compare=False
    )


class SpeechDetector:
    """
    The network and its hysteresis; holds weights, no state: one serves any number of voices.

    0.2 ms for each 32 ms of a voice on one core.
    """

    def __init__(self, hysteresis: Hysteresis | None = None, path: str | pathlib.Path = ''):
        """
        Load the network.

        Args:
            hysteresis: thresholds and times, None for the defaults.
            path: of `silero_vad.onnx`; empty takes the one in the package silero-vad.

        Raises:
            RuntimeError: onnxruntime or silero-vad is not installed.
            FileNotFoundError: there is no network at `path`.
        """
        self.hysteresis = hysteresis or Hysteresis()
        path = pathlib.Path(path or _shipped_network())
        if not path.is_file():
            raise FileNotFoundError(
                f'no speech detector at {path}; reinstall silero-vad, or give the path of '
                'silero_vad.onnx'
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise _not_installed('onnxruntime') from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors: onnxruntime 1.12 lists 270 constants as not used
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )

    def listen(
        self, samples: np.ndarray, state: SpeechState
    ) -> tuple[np.ndarray, np.ndarray, SpeechState]:
        """
        Hear the next samples of a voice.

        Args:
            samples: float32 `[n]` at 16 kHz, full scale 1, zero where nothing was heard; any n:
                the result does not depend on how the voice was cut.
            state: after the samples before these; not changed.

        Returns:
            for each window that became whole, the probability of speech, float32 `[w]`, and
            whether the voice was speaking at its end, bool `[w]`; and the state after them.
        """
        heard = np.concatenate([state.heard, np.asarray(samples, np.float32)])
        n_windows = (len(heard) - _CONTEXT) // WINDOW
        probabilities = np.zeros(n_windows, np.float32)
        is_speaking = np.zeros(n_windows, bool)
        memory, speaking, n_turning = state.memory, state.is_speaking, state.n_turning
        for i in range(n_windows):
            window = heard[None, i * WINDOW : (i + 1) * WINDOW + _CONTEXT]
            feeds = {'input': window, 'state': memory, 'sr': np.array(SAMPLE_RATE_HZ, np.int64)}
            output, memory = self._session.run(None, feeds)
            probabilities[i] = output[0, 0]
            speaking, n_turning = decide(
                float(probabilities[i]), speaking, n_turning, self.hysteresis
            )
            is_speaking[i] = speaking
        last = float(probabilities[-1]) if n_windows else state.probability
        after = SpeechState(last, speaking, n_turning, memory, heard[n_windows * WINDOW :])
        return probabilities, is_speaking, after


def decide(
    probability: float, is_speaking: bool, n_turning: int, hysteresis: Hysteresis
) -> tuple[bool, int]:
    """
    Take one more window's probability into account.

    Args:
        probability: of speech in this window.
        is_speaking: before it.
        n_turning: windows in a row before it that spoke against that.
        hysteresis: thresholds and times.

    Returns:
        whether the voice is speaking after it, and the windows in a row that speak against that.
    """
    if is_speaking:
        is_turning, needed_ms = probability < hysteresis.stop, hysteresis.min_silence_ms
    else:
        is_turning, needed_ms = probability >= hysteresis.start, hysteresis.min_speech_ms
    if not is_turning:
        return is_speaking, 0
    if (n_turning + 1) * WINDOW_S * 1000 >= needed_ms:
        return not is_speaking, 0
    return is_speaking, n_turning + 1


def _shipped_network() -> pathlib.Path:
    spec = importlib.util.find_spec('silero_vad')
    if spec is None or not spec.submodule_search_locations:
        raise _not_installed('silero-vad')
    return pathlib.Path(spec.submodule_search_locations[0]) / 'data' / 'silero_vad.onnx'


def _not_installed(package: str) -> RuntimeError:
    return RuntimeError(
        f'telling who speaks needs onnxruntime and silero-vad, {package} is not installed; '
        'pip install onnxruntime; pip install --no-deps silero-vad (it needs no torchaudio)'
    )
