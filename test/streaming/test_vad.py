# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys

import numpy as np
from numpy.testing import assert_array_equal
import pytest
from scipy.io import wavfile

from timar_ros.stream.resample import Resampler
from timar_ros.stream.vad import WINDOW, Hysteresis, SpeechDetector, SpeechState, decide

DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'


@pytest.fixture(scope='module')
def detector():
    pytest.importorskip('onnxruntime', reason='the speech detector is not installed')
    return SpeechDetector()


@pytest.fixture(scope='module')
def speech():
    """Return ten seconds of the demo's user, with pauses between sentences, at 16 kHz."""
    rate_hz, samples = wavfile.read(DEMO / 'user.wav')
    samples = samples[: 10 * rate_hz].astype(np.float32) / 32768
    return Resampler(rate_hz).resample(samples)


def decide_all(probabilities, hysteresis=None):
    is_speaking, n_turning, decisions = False, 0, []
    for probability in probabilities:
        is_speaking, n_turning = decide(
            probability, is_speaking, n_turning, hysteresis or Hysteresis()
        )
        decisions.append(is_speaking)
    return decisions


def test_speech_is_told_from_silence_and_from_noise(detector, speech):
    noise = (np.random.default_rng(0).standard_normal(len(speech)) * 0.03).astype(np.float32)
    energy = np.square(speech[: len(speech) // WINDOW * WINDOW]).reshape(-1, WINDOW).mean(axis=1)
    is_loud = energy > 1e-3

    in_speech, is_speaking, _ = detector.listen(speech, SpeechState())
    in_noise, _, _ = detector.listen(noise, SpeechState())
    in_silence, _, _ = detector.listen(np.zeros(16_000, np.float32), SpeechState())

    assert np.quantile(in_speech[is_loud], 0.1) > 0.5
    assert is_speaking[is_loud].mean() > 0.9
    assert in_noise[3:].max() < 0.35
    assert in_silence.max() < 0.35


def test_probabilities_do_not_depend_on_how_audio_was_chunked(detector, speech):
    whole, is_speaking, last = detector.listen(speech, SpeechState())

    for chunk in (160, 1_000, 40_000):
        pieces, decisions, state = [], [], SpeechState()
        for start in range(0, len(speech), chunk):
            piece, decided, state = detector.listen(speech[start : start + chunk], state)
            pieces.append(piece)
            decisions.append(decided)
        assert_array_equal(np.concatenate(pieces), whole, err_msg=f'chunk {chunk}')
        assert_array_equal(np.concatenate(decisions), is_speaking, err_msg=f'chunk {chunk}')
        assert_array_equal(state.memory, last.memory)
        assert state == last


def test_two_voices_do_not_disturb_each_other(detector, speech):
    alone, _, _ = detector.listen(speech[:32_000], SpeechState())

    user, agent = SpeechState(), SpeechState()
    pieces = []
    for start in range(0, 32_000, 1_600):
        piece, _, user = detector.listen(speech[start : start + 1_600], user)
        _, _, agent = detector.listen(-speech[start + 32_000 : start + 33_600], agent)
        pieces.append(piece)

    assert_array_equal(np.concatenate(pieces), alone)


def test_less_than_a_window_changes_no_decision(detector, speech):
    _, _, state = detector.listen(speech[: 100 * WINDOW], SpeechState())

    probabilities, is_speaking, after = detector.listen(speech[:100], state)

    assert len(probabilities) == len(is_speaking) == 0
    assert (after.probability, after.is_speaking) == (state.probability, state.is_speaking)


def test_speech_begins_after_two_windows_and_ends_after_seven():
    probabilities = [0.6, 0.4, 0.5, 0.5] + [0.34] * 6 + [0.36] + [0.34] * 8

    expected = [False] * 3 + [True] * 14 + [False] * 2

    assert decide_all(probabilities) == expected


def test_between_the_thresholds_nothing_changes():
    assert decide_all([0.4] * 20) == [False] * 20
    assert decide_all([0.9, 0.9] + [0.4] * 20)[2:] == [True] * 20


def test_times_are_rounded_up_to_windows():
    hysteresis = Hysteresis(min_speech_ms=0, min_silence_ms=33)

    assert decide_all([0.9, 0.1, 0.1], hysteresis) == [True, True, False]


def test_thresholds_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match='got stop 0.6 and start 0.5'):
        Hysteresis(stop=0.6)


def test_a_missing_network_is_named():
    with pytest.raises(FileNotFoundError, match='no speech detector at /no/such.onnx'):
        SpeechDetector(path='/no/such.onnx')


@pytest.mark.parametrize('package', ['onnxruntime', 'silero_vad'])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package, monkeypatch, tmp_path
):
    network = tmp_path / 'silero_vad.onnx'
    network.write_bytes(b'')
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(RuntimeError, match=f'{package.replace("_", "-")} is not installed; pip'):
        SpeechDetector(path=network if package == 'onnxruntime' else '')
