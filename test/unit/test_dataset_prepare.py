# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The pairs of the first weights: mouths stay with their words, heads rest in silence."""

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.learn import behaviour, prepare
from timar_ros.learn.clips import open_clips
from timar_ros.motion import get_space
from timar_ros.stream.lips import lip_sync

_RATE_HZ = 16000


def _write_sources(folder):
    """Write made-up stand-ins for the three data sets, in their formats."""
    rng = np.random.default_rng(0)
    for name in ('facegood', 'calls', 'multitpc'):
        (folder / name).mkdir(parents=True)
    for stem in ('1114_2_01', '1114_2_02', '1114_3_15'):
        voice, jaw = _words(rng, 12)
        _write_voice(folder / 'facegood' / f'{stem}.wav', voice)
        weights = np.stack([jaw, 0.5 * jaw], 1).astype(np.float16)
        names = ['mouth_stretch_c', 'mouth_funnel_dl']
        np.savez(folder / 'facegood' / f'{stem}.npz', weights=weights, names=names, fps=30)
    _write_voice(folder / 'calls' / 'caller.wav', _words(rng, 20)[0][::2], rate=8000)
    for n in (1, 2):
        steps = rng.normal(size=(260 * 60, 3)) * 0.01
        np.savez(folder / 'multitpc' / f'person_{n}.npz', rotvec=np.cumsum(steps, 0), fps=60.0)


def _words(rng, n_words):
    """Return a voice of a word a second, and the jaw that spoke it at 30 fps."""
    times = np.arange(n_words * _RATE_HZ) / _RATE_HZ
    opening = np.clip(np.sin(2 * np.pi * (times % 1.0 - 0.25)), 0, 1)  # open from 0.25 to 0.75 s
    voice = 0.2 * opening * rng.normal(size=len(times))
    return voice, opening[:: _RATE_HZ // 30][: n_words * 30]


def _write_voice(path, voice, rate=_RATE_HZ):
    scipy.io.wavfile.write(path, rate, (voice * 32767).astype(np.int16))


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pairs')
    _write_sources(folder / 'data')
    prepare.main([str(folder / 'data'), str(folder / 'out'), '--minutes', '3', '--seed', '1'])
    return open_clips(folder / 'out' / 'train', get_space('arkit55'))[0]


def _voices(clip):
    return [scipy.io.wavfile.read(path)[1] / 32768 for path in (clip.agent_wav, clip.user_wav)]


def test_the_mouth_moves_with_the_agents_words(clips):
    jaw_channel = get_space('arkit55').index('jawOpen')

    for clip in clips:
        lag = lip_sync(clip.agent_motion[:, jaw_channel], _voices(clip)[0], _RATE_HZ)

        assert lag.correlation > 0.8
        assert abs(lag.lag_s) < 0.04


def test_heads_move_more_while_somebody_speaks(clips):
    for clip in clips:
        speaks = [behaviour.voice_activity(voice, _RATE_HZ) for voice in _voices(clip)]
        figures = behaviour.stillness(clip.agent_motion[:, -3:], speaks[1], speaks[0])

        assert figures['ratio'] > 2
        assert figures['silent'] > 0


def test_only_mouth_and_neck_are_trained(clips):
    space = get_space('arkit55')

    trained = {space.names[i] for i in np.flatnonzero(clips[0].is_valid)}

    assert {'jawOpen', 'mouthFunnel', 'neck_x'} <= trained
    assert all(name.startswith(('mouth', 'jaw', 'neck')) for name in trained)


def test_the_same_seed_makes_the_same_clips(clips, tmp_path):
    data = clips[0].agent_wav.parents[2] / 'data'

    prepare.main([str(data), str(tmp_path), '--minutes', '1', '--seed', '1'])

    again = open_clips(tmp_path / 'train', get_space('arkit55'))[0][0]
    np.testing.assert_array_equal(again.agent_motion, clips[0].agent_motion)
    assert again.agent_wav.read_bytes() == clips[0].agent_wav.read_bytes()


def test_rig_channels_add_up_and_stay_below_one():
    weights = np.array([[0.4, 0.2, 0.8], [1.0, 1.0, 1.0]])

    mouth = prepare.map_rig(weights, ['mouth_stretch_c', 'mouth_funnel_ul', 'mouth_oh_c'])

    names = list(prepare.RIG_TO_ARKIT)
    np.testing.assert_allclose(mouth[:, names.index('jawOpen')], [0.4, 1.0], rtol=1e-6)
    np.testing.assert_allclose(mouth[:, names.index('mouthFunnel')], [0.45, 0.75], rtol=1e-6)
    np.testing.assert_allclose(mouth[:, names.index('mouthPucker')], [0.0, 0.0])


def test_every_mapped_channel_is_an_arkit_one():
    assert set(prepare.RIG_TO_ARKIT) <= set(get_space('arkit55').names)


def test_phrases_are_parted_by_long_gaps_only():
    voice = np.zeros(3 * _RATE_HZ)
    for start_s, end_s in ((0.5, 1.0), (1.1, 1.5), (2.2, 2.6)):
        voice[int(start_s * _RATE_HZ) : int(end_s * _RATE_HZ)] = 0.1

    phrases = prepare.find_phrases(voice, smallest_gap_s=0.3)

    np.testing.assert_allclose(phrases / _RATE_HZ, [[0.5, 1.5], [2.2, 2.6]], atol=0.011)


def test_a_faster_voice_takes_its_mouth_along():
    rng = np.random.default_rng(2)
    voice, jaw = _words(rng, 6)
    mouth = np.repeat(jaw[:, None], len(prepare.RIG_TO_ARKIT), 1)

    slow, fast = (prepare.cut_phrases(voice, 0.3, mouth, 30.0, speed)[2] for speed in (1.0, 1.25))

    assert len(fast.samples) == pytest.approx(len(slow.samples) / 1.25, abs=2)
    for phrase in (slow, fast):
        jaw_open = phrase.mouth[:, 0]
        centre = (jaw_open * np.arange(len(jaw_open))).sum() / jaw_open.sum() / 25
        assert centre == pytest.approx(len(phrase.samples) / 2 / _RATE_HZ, abs=0.02)


def test_a_folder_without_the_data_sets_is_refused(tmp_path):
    with pytest.raises(ValueError, match='expected facegood/.*got 0, 0 and 0'):
        prepare.main([str(tmp_path), str(tmp_path / 'out')])
