# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the teacher lets people say: when, how it ends, where it sounds, and with which mouth."""

import itertools
import pathlib

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.learn.simulator import endings, prosody, room, scripts, voices
from timar_ros.learn.simulator.dialogue import RecordedSpeaker, converse
from timar_ros.learn.simulator.mouth import learn_mouth
from timar_ros.learn.simulator.recorded import MOUTH_NAMES, Recording, read_facegood
from timar_ros.stream.lips import lip_sync, voice_envelope
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler
from timar_ros.stream.wav import read_wav

_DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'
_JAW = MOUTH_NAMES.index('jawOpen')
_FPS = 25
_CUE_ENDINGS = ('fall', 'dip', 'low', 'final')


def _read(name: str) -> np.ndarray:
    samples, rate_hz = read_wav(_DEMO / f'{name}.wav')
    return Resampler(rate_hz).resample(samples[:, 0])


@pytest.fixture(scope='module')
def recordings():
    """Return the demo's voices, each with a mouth that opens as it is loud."""
    made = {}
    for name in ('agent', 'user'):
        voice = _read(name)
        opening = voice_envelope(voice, SAMPLE_RATE_HZ, _FPS)
        mouth = np.zeros((len(opening), len(MOUTH_NAMES)), np.float32)
        mouth[:, _JAW] = np.clip(3 * opening, 0, 1)
        made[name] = Recording(name, voice, mouth)
    return made


def _talk(recordings, seed: int):
    speakers = {name: RecordedSpeaker(made, 0, False) for name, made in recordings.items()}
    return converse(speakers, scripts.topics(False), 60.0, np.random.default_rng(seed))


def test_the_same_draws_make_the_same_conversation_and_others_make_another(recordings):
    first, again, other = (_talk(recordings, seed) for seed in (3, 3, 4))

    for party in ('agent', 'user'):
        assert_array_equal(again.voice(party), first.voice(party))
        assert (other.voice(party) != first.voice(party)).any()
    assert again.cues == first.cues


def test_a_cue_is_a_phrase_end_of_the_other_followed_by_a_pause(recordings):
    dialogue = _talk(recordings, 3)

    assert len(dialogue.cues['agent'] + dialogue.cues['user']) > 3
    for party, other in (('agent', 'user'), ('user', 'agent')):
        said = [u for u in dialogue.of(other) if u.kind == 'phrase']
        for cue_s in dialogue.cues[party]:
            ended = [u for u in said if u.end_s == pytest.approx(cue_s)]
            assert len(ended) == 1 and ended[0].ending in _CUE_ENDINGS
            assert ended[0].end_s - ended[0].start_s >= 0.7
            later = [u.start_s for u in said if u.start_s > cue_s - 0.01]
            assert later and min(later) >= cue_s + 0.12


def _heard(recordings):
    """Yield the phrases of each voice of twelve conversations, and the other's cues, s."""
    for seed in range(12):
        dialogue = _talk(recordings, seed)
        for party, other in (('agent', 'user'), ('user', 'agent')):
            yield [u for u in dialogue.of(other) if u.kind == 'phrase'], dialogue.cues[party]


def test_speakers_go_on_soon_after_a_cue_and_who_thinks_gives_none(recordings):
    pauses_s, are_cues = [], []
    for said, cues_s in _heard(recordings):
        low = [
            (ended, begun.start_s - ended.end_s)
            for ended, begun in itertools.pairwise(said)
            if ended.ending in _CUE_ENDINGS and ended.end_s - ended.start_s >= 0.7
            if not ended.ends_turn
        ]
        assert [ended.end_s for ended, pause_s in low if pause_s < 0.55] == pytest.approx(cues_s)
        pauses_s += [pause_s for _, pause_s in low]
        are_cues += [pause_s < 0.55 for _, pause_s in low]
    pauses_s, are_cues = np.array(pauses_s), np.array(are_cues)

    assert are_cues.sum() > 50 and (~are_cues).sum() > 15
    assert pauses_s[are_cues].min() >= 0.12 and pauses_s[are_cues].max() <= 0.47
    assert pauses_s[~are_cues].min() >= 0.68 and pauses_s[~are_cues].max() <= 2.52


def test_the_last_words_of_a_turn_are_no_cue_and_not_bent_as_low(recordings):
    for said, cues_s in _heard(recordings):
        last = [u for u in said if u.ends_turn]
        assert not {u.ending for u in last} & {'fall', 'dip'}
        assert not {u.end_s for u in last} & set(cues_s)


def test_silences_of_every_length_come_between_turns(recordings):
    silences_s = []
    for seed in range(40):
        turns = _talk(recordings, seed).turns
        silences_s += [start - end for (*_, end), (_, start, _) in itertools.pairwise(turns)]
    long_s = np.array([silence_s for silence_s in silences_s if silence_s > 0.7])

    assert len(long_s) > 20 and long_s.max() <= 8.1
    assert 0.2 < (long_s < 2.0).mean() < 0.8


def test_held_out_scripts_share_no_story_line_with_the_others():
    said = {}
    for held_out in (False, True):
        rng = np.random.default_rng(0)
        names = scripts.topics(held_out)
        lines = [scripts.write_turn('story', names[i % len(names)], rng) for i in range(300)]
        said[held_out] = {line.text for turn in lines for line in turn if '{' not in line.text}
    things = {held_out: {t for t in said[held_out] if 'the mast' in t} for held_out in said}

    assert not set(scripts.topics(False)) & set(scripts.topics(True))
    assert len(said[False]) > 500
    assert things[True] and not things[False]


def test_the_end_of_a_thought_is_lower_and_the_end_of_a_question_higher():
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hum = np.sign(np.sin(2 * np.pi * 160 * time_s)).astype(np.float32) * 0.1

    pitch = {
        ending: prosody.find_pitch(endings.end_phrase(hum, ending))[-6:-2].mean()
        for ending in ('fall', 'dip', 'plain', 'rise')
    }

    assert_allclose(pitch['fall'] / 160, endings.ENDINGS['fall'].speed, rtol=0.05)
    assert_allclose(pitch['rise'] / 160, endings.ENDINGS['rise'].speed, rtol=0.12)
    assert pitch['fall'] < pitch['dip'] < pitch['plain'] < pitch['rise']


def test_a_drawn_end_is_longer_and_as_high_as_it_was():
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hum = np.sign(np.sin(2 * np.pi * 160 * time_s)).astype(np.float32) * 0.1

    drawn = endings.end_phrase(hum, 'drawn')

    assert_allclose(len(drawn) - len(hum), 0.5 * 0.45 * SAMPLE_RATE_HZ, atol=2)
    assert_allclose(prosody.find_pitch(drawn)[2:-2], 160, rtol=0.03)


def test_breath_and_keys_are_far_below_the_voice():
    rng = np.random.default_rng(0)
    silence = np.zeros(60 * SAMPLE_RATE_HZ)

    heard = room.stir(silence, rng)

    loudest_db = 20 * np.log10(np.sqrt(np.convolve(heard**2, np.ones(800) / 800).max()) / 0.1)
    assert -58 < loudest_db < -25


def test_no_speaker_of_a_program_is_in_both_sets():
    settings = [
        {(voice.program, voice.setting) for voice in voices.list_voices(held_out, True)}
        for held_out in (False, True)
    ]

    assert settings[0] and settings[1]
    assert not settings[0] & settings[1]


def test_a_missing_program_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))

    with pytest.raises(FileNotFoundError, match='flite and espeak-ng .* apt install flite'):
        voices.Synthesiser(tmp_path / 'cache')


def test_a_folder_without_facegood_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}.*facegood'):
        read_facegood(tmp_path)


def test_a_room_changes_neither_the_time_of_a_voice_nor_its_length():
    voice = _read('user')[: 10 * SAMPLE_RATE_HZ]
    heard = room.reverberate(voice, 0.4, np.random.default_rng(0))
    envelopes = [voice_envelope(samples, SAMPLE_RATE_HZ, 100) for samples in (voice, heard)]
    shifts = [
        np.corrcoef(envelopes[0][20:-20], np.roll(envelopes[1], -k)[20:-20])[0, 1]
        for k in range(5)
    ]

    assert len(heard) == len(voice) == len(room.telephone(voice))
    assert int(np.argmax(shifts)) <= 1


def test_a_learned_mouth_is_in_time_with_a_voice_it_never_heard_and_closed_in_silence(recordings):
    mouth = learn_mouth([recordings['agent']], n_steps=200)
    voice = np.concatenate([recordings['user'].samples, np.zeros(32000, np.float32)])
    moved = mouth.speak(voice)
    lag = lip_sync(moved[:, _JAW], voice, SAMPLE_RATE_HZ)

    assert abs(lag.lag_s) < 0.03
    assert lag.correlation > 0.6
    assert_array_equal(moved[-40:], 0)
