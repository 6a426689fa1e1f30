# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The teacher does what it says: cues are answered, voices are heard, silence is still."""

import json
import pathlib

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.learn.behaviour import head_speed, head_steps
from timar_ros.learn.clips import open_clips
from timar_ros.learn.recording import read_wav
from timar_ros.learn.simulator import gaze, head, nods, prosody, room, scripts, style, voices
from timar_ros.learn.simulator.dialogue import RecordedSpeaker, converse
from timar_ros.learn.simulator.mouth import learn_mouth
from timar_ros.learn.simulator.person import Person, move
from timar_ros.learn.simulator.recorded import MOUTH_NAMES, Recording
from timar_ros.learn.simulator.write import write_motion, write_truth, write_voice
from timar_ros.motion import get_space
from timar_ros.stream.lips import lip_sync, voice_envelope
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler

_DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'
_JAW = MOUTH_NAMES.index('jawOpen')
_FPS = 25
_NOBODY = style.PERSONAS[0]


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


@pytest.fixture(scope='module')
def dialogue(recordings):
    speakers = {name: RecordedSpeaker(made, 0, False) for name, made in recordings.items()}
    return converse(speakers, scripts.topics(False), 60.0, np.random.default_rng(3))


@pytest.fixture(scope='module')
def mouth(recordings):
    return learn_mouth([recordings['agent']], n_steps=200)


def _person(n_frames: int, **changes) -> Person:
    path = np.random.default_rng(0).normal(size=(3 * n_frames, 3)).cumsum(0) * 1e-4
    return Person(
        **{
            'party': 'agent',
            'persona': _NOBODY,
            'style': np.zeros((n_frames, 7), np.float32),
            'path': path,
            'shapes': nods.read_shapes(None),
        }
        | changes
    )


def test_the_same_draws_make_the_same_conversation(recordings, dialogue):
    speakers = {name: RecordedSpeaker(made, 0, False) for name, made in recordings.items()}
    again = converse(speakers, scripts.topics(False), 60.0, np.random.default_rng(3))

    for party in ('agent', 'user'):
        assert_array_equal(again.voice(party), dialogue.voice(party))
    assert again.cues == dialogue.cues


def test_a_cue_is_a_phrase_end_of_the_other_followed_by_a_pause(dialogue):
    cues = dialogue.cues['agent'] + dialogue.cues['user']
    assert len(cues) > 3
    for party, other in (('agent', 'user'), ('user', 'agent')):
        said = [u for u in dialogue.of(other) if u.kind == 'phrase']
        for cue_s in dialogue.cues[party]:
            ended = [u for u in said if u.end_s == pytest.approx(cue_s)]
            assert [u.ending for u in ended] == ['fall']
            assert all(u.start_s >= cue_s + 0.55 for u in said if u.start_s > cue_s - 0.01)


def test_a_nod_follows_its_cue_by_half_a_second_to_a_second():
    rng = np.random.default_rng(0)
    cues_s = [2.0 + 3 * i for i in range(100)]
    planted = nods.plan_nods(cues_s, np.zeros(9000), 2, 2.2, 1.0, 1.0, rng)
    lags = np.array([nod.t_s - cues_s[nod.cue] for nod in planted])

    assert 90 <= len(planted) <= 100
    assert lags.min() >= 0.5 and lags.max() <= 0.7
    moved, _ = nods.play_nods(planted, nods.read_shapes(None)['yes'], 9000)
    peak = round((planted[0].t_s + planted[0].duration_s / 2) * _FPS)
    assert np.rad2deg(np.abs(moved[peak - 20 : peak + 20]).max()) == pytest.approx(
        planted[0].amplitude_deg, rel=0.2
    )


def test_a_listener_who_likes_it_nods_more_often_than_one_who_does_not():
    cues_s = [2.0 + 3 * i for i in range(200)]
    counts = [
        len(nods.plan_nods(cues_s, np.full(16000, mood), 2, 2.2, 1, 1, np.random.default_rng(1)))
        for mood in (-1.0, 0.0, 1.0)
    ]
    assert counts[0] < 0.5 * counts[1] < 0.6 * counts[2]


def _burst(start_s: float, end_s: float, length_s: float = 12.0) -> prosody.Prosody:
    energy = np.zeros(round(length_s * _FPS))
    energy[round(start_s * _FPS) : round(end_s * _FPS)] = 0.8
    window = np.hanning(27)[1:-1]
    activity = np.clip(1.2 * np.convolve(energy > 0, window / window.sum(), 'same'), 0, 1)
    return prosody.Prosody(energy, np.zeros_like(energy), activity)


def test_a_head_turns_to_who_begins_to_speak_within_a_third_of_a_second_and_not_before():
    silence = _burst(0, 0)
    path = np.zeros((2000, 3))

    def head_of(other):
        return head.move_head(silence, other, [], None, path, _NOBODY, np.random.default_rng(0))

    apart = head_steps(head_of(silence), head_of(_burst(5, 8)))
    assert_array_equal(apart[: 5 * _FPS], 0)
    assert apart[round(5.32 * _FPS)] > 3.0
    assert apart[round(8.9 * _FPS)] > 6.0  # a pause is waited through


def test_a_head_is_stiller_in_joint_silence_than_in_speech_but_not_dead(dialogue, mouth):
    motion = move(_person(1500), dialogue, mouth, None, np.random.default_rng(0))
    speaks = prosody.listen(dialogue.voice('agent')).energy > 0.3
    quiet = ~np.convolve(speaks, np.ones(50), 'same').astype(bool)
    quiet &= ~np.convolve(prosody.listen(dialogue.voice('user')).energy > 0.3, np.ones(50),
                          'same').astype(bool)  # fmt: skip
    speed = head_speed(motion.neck)

    assert quiet.sum() > 25
    assert 0 < np.median(speed[quiet[:-1]]) < 0.25 * np.median(speed[speaks[:-1]])


def test_a_learned_mouth_is_in_time_with_a_voice_it_never_heard_and_closed_in_silence(
    recordings, mouth
):
    voice = np.concatenate([recordings['user'].samples, np.zeros(32000, np.float32)])
    moved = mouth.speak(voice)
    lag = lip_sync(moved[:, _JAW], voice, SAMPLE_RATE_HZ)

    assert abs(lag.lag_s) < 0.03
    assert lag.correlation > 0.6
    assert_array_equal(moved[-40:], 0)


def test_the_end_of_a_thought_is_lower_and_the_end_of_a_question_higher():
    time_s = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    hum = np.sign(np.sin(2 * np.pi * 160 * time_s)).astype(np.float32) * 0.1

    pitch = {
        ending: prosody.find_pitch(voices.end_phrase(hum, ending))[-6:-2].mean()
        for ending in ('fall', 'plain', 'rise')
    }

    assert_allclose(pitch['fall'] / 160, voices.ENDINGS['fall'], rtol=0.05)
    assert_allclose(pitch['rise'] / 160, voices.ENDINGS['rise'], rtol=0.12)
    assert pitch['fall'] < pitch['plain'] < pitch['rise']


def test_a_smile_grows_with_happiness_and_leaves_the_jaw_alone(dialogue, mouth):
    jaws, smiles = [], []
    for intensity in (0.0, 0.5, 1.0):
        mood = np.zeros((1500, 7), np.float32)
        mood[:, 0] = intensity
        motion = move(_person(1500, style=mood), dialogue, mouth, None, np.random.default_rng(0))
        jaws.append(motion.channels['jawOpen'])
        smiles.append(motion.channels['mouthSmileLeft'].mean())

    assert_array_equal(jaws[0], jaws[2])
    assert smiles[0] + 0.2 < smiles[1] < smiles[2] - 0.2


def test_what_is_seen_of_the_other_is_copied_after_the_lag(dialogue, mouth):
    seen = np.zeros((1500, 3))
    seen[:, 1] = 0.2 * np.sin(2 * np.pi * 0.4 * np.arange(1500) / _FPS)
    alone, together = (
        move(_person(1500), dialogue, mouth, other, np.random.default_rng(0)).neck[:, 1]
        for other in (None, seen)
    )
    copied = together - alone
    lags = range(5, 30)
    likeness = [np.corrcoef(copied[60:], np.roll(seen[:, 1], lag)[60:])[0, 1] for lag in lags]

    # the low-pass adds a little to the lag itself
    assert head.MIMICRY_LAG_S <= lags[int(np.argmax(likeness))] / _FPS < head.MIMICRY_LAG_S + 0.3
    assert max(likeness) > 0.6


def test_people_blink_as_often_as_people_do_and_look_away_when_they_begin(dialogue):
    ends_s = [u.end_s for u in dialogue.utterances]
    closed = gaze.blink(ends_s, 1500, np.random.default_rng(0))
    assert 10 <= ((closed[1:] > 0.5) & (closed[:-1] <= 0.5)).sum() <= 40

    eyes = gaze.look([(4.0, 9.0)], np.zeros(300), _NOBODY)
    assert eyes['eyeLookOutLeft'][115] > 0.3 > 0.1 > eyes['eyeLookOutLeft'][180]


def test_a_room_changes_neither_the_time_of_a_voice_nor_its_length():
    voice = _read('user')[: 10 * SAMPLE_RATE_HZ]
    heard = room.reverberate(voice, 0.4, np.random.default_rng(0))
    envelopes = [voice_envelope(samples, SAMPLE_RATE_HZ, 100) for samples in (voice, heard)]
    shifts = [np.corrcoef(envelopes[0][20:-20], np.roll(envelopes[1], -k)[20:-20])[0, 1]
              for k in range(5)]  # fmt: skip

    assert len(heard) == len(voice) == len(room.telephone(voice))
    assert int(np.argmax(shifts)) <= 1


def test_a_clip_is_read_back_with_its_style_and_its_truth(tmp_path, dialogue, mouth):
    person = _person(1500, style=style.draw_style(1500, np.random.default_rng(1)))
    motion = move(person, dialogue, mouth, None, np.random.default_rng(0))
    for party in ('agent', 'user'):
        write_voice(tmp_path / f'0000_{party}.wav', dialogue.voice(party))
    write_motion(tmp_path / '0000_agent.npz', motion, style=person.style, persona='warm')
    write_truth(tmp_path / '0000_truth.json', dialogue, motion)

    clips, refused = open_clips(tmp_path, get_space('arkit55'), _FPS)
    truth = json.loads((tmp_path / '0000_truth.json').read_text())

    assert not refused
    assert [clip.n_frames for clip in clips] == [1500]
    assert_allclose(clips[0].agent_motion[:, 52:], motion.neck, atol=1e-6)
    assert_allclose(clips[0].style, person.style, atol=0.1)  # read at the nearest frame
    assert clips[0].persona == 'warm'
    assert len(truth['cues']) == len(dialogue.cues['agent'])
    assert all(0.5 <= n['t_s'] - truth['cues'][n['cue']]['t_s'] <= 0.7 for n in truth['nods'])
