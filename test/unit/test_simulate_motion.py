# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How the teacher lets people move: nods after cues, stillness, eyes, smiles, and the files."""

import dataclasses
import json
import pathlib

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.config import TimingConfig
from timar_ros.learn.behaviour import head_speed, mouth_rest_ratio, power_shares
from timar_ros.learn.clips import open_clips
from timar_ros.learn.events import blinks_per_minute, find_nods, match_events
from timar_ros.learn.simulator import gaze, head, nods, scripts, style
from timar_ros.learn.simulator.dialogue import (
    Dialogue,
    RecordedSpeaker,
    Utterance,
    converse,
)
from timar_ros.learn.simulator.mouth import learn_mouth
from timar_ros.learn.simulator.person import perform
from timar_ros.learn.simulator.prosody import Prosody, listen
from timar_ros.learn.simulator.recorded import MOUTH_NAMES, Recording
from timar_ros.learn.simulator.write import write_motion, write_truth, write_voice
from timar_ros.motion import get_space
from timar_ros.stream.lips import voice_envelope
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler
from timar_ros.stream.wav import read_wav

_DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'
_FPS = 25
_N_FRAMES = 60 * _FPS
_SHAPES = nods.read_shapes(None)
_SILENCE = Prosody(*np.zeros((3, _N_FRAMES)))


@pytest.fixture(scope='module')
def stage():
    """Return a dialogue of the demo's voices, what is heard of it, and a mouth."""
    recordings = {}
    for name in ('agent', 'user'):
        samples, rate_hz = read_wav(_DEMO / f'{name}.wav')
        voice = Resampler(rate_hz).resample(samples[:, 0])
        opening = voice_envelope(voice, SAMPLE_RATE_HZ, _FPS)
        mouth = np.zeros((len(opening), len(MOUTH_NAMES)), np.float32)
        mouth[:, MOUTH_NAMES.index('jawOpen')] = np.clip(3 * opening, 0, 1)
        recordings[name] = Recording(name, voice, mouth)
    speakers = {name: RecordedSpeaker(made, 0, False) for name, made in recordings.items()}
    dialogue = converse(speakers, scripts.topics(False), 60.0, np.random.default_rng(3))
    voices = {party: dialogue.voice(party) for party in ('agent', 'user')}
    prosody = {party: listen(voice) for party, voice in voices.items()}
    return dialogue, voices, prosody, learn_mouth([recordings['agent']], n_steps=200)


def _perform(stage, mood=None, persona=style.PERSONAS[0], seen=None, seed=0):
    dialogue, voices, prosody, mouth = stage
    path = head.imagine_path(4 * _N_FRAMES, np.random.default_rng(7))
    mood = np.zeros((_N_FRAMES, style.N_STYLE), np.float32) if mood is None else mood
    return perform(
        'agent', dialogue, voices, prosody, mouth, _SHAPES, path, persona, mood, seen,
        np.random.default_rng(seed),
    )  # fmt: skip


def _moved_by_a_burst(stage, own: Prosody) -> np.ndarray:
    """Return how far the other's voice at 30 to 33 s moves a head, degrees `[F]`."""
    dialogue, voices, _, mouth = stage
    quiet = dataclasses.replace(dialogue, cues={'agent': []}, events={'agent': []})
    burst = np.zeros(_N_FRAMES)
    burst[30 * _FPS : 33 * _FPS] = 0.8
    still, moved = (
        _perform((quiet, voices, {'agent': own, 'user': heard}, mouth)).neck
        for heard in (_SILENCE, Prosody(burst, 0 * burst, burst))
    )
    return np.rad2deg(np.linalg.norm(moved - still, axis=1))


def _speaks(dialogue, *parties) -> np.ndarray:
    mask = np.zeros(_N_FRAMES, bool)
    for utterance in dialogue.utterances:
        if utterance.party in parties:
            mask[int(utterance.start_s * _FPS) : int(utterance.end_s * _FPS) + 1] = True
    return mask


def test_a_nod_follows_its_cue_by_half_a_second_to_a_second():
    cues_s = [2.0 + 3 * i for i in range(100)]
    planted = nods.plan_nods(
        cues_s, np.zeros(9000), 2, 2.2, 1.0, 1.0, np.random.default_rng(0)
    )  # fmt: skip
    lags = np.array([nod.t_s - cues_s[nod.cue] for nod in planted])

    assert 80 <= len(planted) <= 100
    assert lags.min() >= 0.7 and lags.max() <= 0.9


def test_what_was_planted_is_found_again_in_the_head(stage):
    performed = _perform(stage, persona=style.Persona(willing=2.0))  # answers every cue
    found = [nod.start_s for nod in find_nods(performed.neck)]
    planted_s = np.array([nod.t_s - nods.LAG_S for nod in performed.nods])
    match = match_events(np.array(found), planted_s, 60.0)

    assert len(planted_s) >= 2
    assert match.recall == 1.0
    assert match.false_per_minute <= 3


def test_a_listener_who_likes_it_nods_more_often_than_one_who_does_not():
    cues_s = [2.0 + 3 * i for i in range(200)]
    counts = [
        len(nods.plan_nods(cues_s, np.full(16000, mood), 2, 2.2, 1, 1, np.random.default_rng(1)))
        for mood in (-1.0, 0.0, 1.0)
    ]

    assert counts[0] < 0.5 * counts[1] < 0.6 * counts[2]


def test_a_head_attends_to_a_voice_within_half_a_second_and_not_before():
    energy = np.zeros(12 * _FPS)
    energy[5 * _FPS : 8 * _FPS] = 0.8
    attends = head.attend_to(Prosody(energy, 0 * energy, 0 * energy))

    assert_array_equal(attends[: 5 * _FPS], 0)
    assert attends[round(5.5 * _FPS)] > 0.85
    assert attends[round(9.0 * _FPS)] > 0.8  # a pause passes
    assert attends[-1] < 0.5


def test_a_head_sways_with_a_voice_six_frames_late():
    energy = np.zeros(12 * _FPS)
    energy[5 * _FPS : 8 * _FPS] = 0.8
    sways = head.sway_with(Prosody(energy, 0 * energy, 0 * energy))

    assert_array_equal(sways[: round(5.24 * _FPS)], 0)
    assert sways[round(5.36 * _FPS)] > 0.5
    assert_allclose(sways[7 * _FPS : round(8.24 * _FPS)], 0.5 / 0.7, atol=1e-3)
    assert sways[round(8.4 * _FPS)] < 0.2
    assert sways[9 * _FPS] < 1e-3


def test_a_head_does_not_sway_with_a_last_breath():
    energy = np.full(12 * _FPS, 0.29)

    assert_array_equal(head.sway_with(Prosody(energy, 0 * energy, 0 * energy)), 0)


def test_who_interrupts_moves_the_head_of_who_speaks(stage):
    talk = np.full(_N_FRAMES, 0.8)

    apart = _moved_by_a_burst(stage, Prosody(talk, 0 * talk, np.ones(_N_FRAMES)))

    assert apart[: 30 * _FPS].max() < 0.1
    assert apart[round(30.52 * _FPS)] > 2.0


def test_a_head_moves_for_no_more_of_its_own_voice_than_a_robot_knows_ahead(stage):
    dialogue, voices, _, mouth = stage
    said = next(u for u in dialogue.of('agent') if u.end_s - u.start_s > 2)
    phrases = [dataclasses.replace(said, start_s=start_s) for start_s in (10.0, 30.0)]
    nothing = {'agent': [], 'user': []}
    necks = []
    for utterances in (phrases[:1], phrases):
        talk = Dialogue(60.0, utterances, nothing, nothing, [])
        prosody = {'agent': listen(talk.voice('agent')), 'user': _SILENCE}
        necks.append(_perform((talk, voices, prosody, mouth)).neck)
    apart = np.rad2deg(np.linalg.norm(necks[1] - necks[0], axis=1))

    timing = TimingConfig()
    known_s = timing.agent_lead_ms / 1000 - 1 / timing.replan_hz - timing.plan_latency_ms / 1000
    assert apart[: int((30 - known_s) * _FPS)].max() < 0.1
    assert apart[30 * _FPS : 32 * _FPS].max() > 2.0


def test_a_head_begins_in_the_middle(stage):
    neck = np.rad2deg(_perform(stage, persona=style.PERSONAS[1]).neck)

    assert_array_equal(neck[0], 0)
    assert np.linalg.norm(neck[: _FPS // 2], axis=1).max() < 2.0


def test_nothing_of_the_others_voice_moves_a_head_before_it_sounds(stage):
    apart = _moved_by_a_burst(stage, _SILENCE)

    assert apart[: 30 * _FPS].max() < 0.1
    assert apart[round(30.48 * _FPS)] > 3.0


def test_a_head_is_stiller_in_joint_silence_than_in_speech_but_not_dead(stage):
    dialogue = stage[0]
    speed = head_speed(_perform(stage).neck)
    anybody = _speaks(dialogue, 'agent', 'user')[:-1]
    silent = ~np.convolve(anybody, np.ones(51), 'same').astype(bool)

    assert silent.sum() > 25
    assert 0 < np.median(speed[silent]) < 0.4 * np.median(speed[anybody])


def test_a_head_moves_at_the_frequencies_of_people(stage):
    slow, tremor = power_shares(_perform(stage).neck)

    assert 0.6 < slow < 0.95
    assert tremor < 0.02


def test_the_mouth_is_closed_while_its_owner_is_silent(stage):
    jaw = _perform(stage).channels['jawOpen']

    assert mouth_rest_ratio(jaw, _speaks(stage[0], 'agent')) < 0.02


def test_a_smile_grows_with_happiness_and_leaves_the_jaw_alone(stage):
    jaws, smiles = [], []
    for intensity in (0.0, 0.5, 1.0):
        mood = np.zeros((_N_FRAMES, style.N_STYLE), np.float32)
        mood[:, 0] = intensity
        channels = _perform(stage, mood).channels
        jaws.append(channels['jawOpen'])
        smiles.append(channels['mouthSmileLeft'].mean())

    assert_array_equal(jaws[0], jaws[2])
    assert smiles[0] + 0.2 < smiles[1] < smiles[2] - 0.2


def test_personas_move_differently_and_keep_their_lips(stage):
    calm, lively = (
        _perform(stage, persona=next(p for p in style.PERSONAS if p.name == name))
        for name in ('calm', 'lively')
    )

    assert np.median(head_speed(lively.neck)) > 1.2 * np.median(head_speed(calm.neck))
    assert_array_equal(calm.channels['jawOpen'], lively.channels['jawOpen'])


def _copied_yaw(stage) -> tuple[np.ndarray, np.ndarray]:
    """Return the yaw of a user who shakes the head all the time, and what is copied of it, rad."""
    seen = np.zeros((_N_FRAMES, 3))
    seen[:, 1] = 0.2 * np.sin(2 * np.pi * 0.4 * np.arange(_N_FRAMES) / _FPS)
    alone, together = (_perform(stage, seen=other).neck[:, 1] for other in (None, seen))
    return seen[:, 1], together - alone


def test_what_is_seen_of_the_other_is_copied_after_about_six_tenths_of_a_second(stage):
    seen, copied = _copied_yaw(stage)
    lags = range(5, 30)
    likeness = [np.corrcoef(copied[60:], np.roll(seen, lag)[60:])[0, 1] for lag in lags]

    assert 0.45 <= lags[int(np.argmax(likeness))] / _FPS <= 0.75
    assert max(likeness) > 0.5


def test_nothing_is_copied_when_nobody_speaks(stage):
    copied = np.abs(_copied_yaw(stage)[1])
    speaks = _speaks(stage[0], 'agent', 'user')
    spoken = np.convolve(speaks, np.ones(_FPS), 'full')[:_N_FRAMES] > 0

    assert (~spoken).sum() > _FPS
    assert copied[speaks].max() > 0.05
    assert copied[~spoken].max() < 0.002


def test_eyes_stay_on_the_other_while_the_head_turns():
    turned = np.zeros((100, 3))
    turned[:, 1] = 0.1
    eyes = gaze.turn_eyes(np.zeros((100, 2)), turned)

    for name in ('eyeLookInLeft', 'eyeLookOutRight'):
        assert_allclose(eyes[name], 0.09 / np.deg2rad(35), atol=1e-9)
    for name in ('eyeLookOutLeft', 'eyeLookInRight'):
        assert_array_equal(eyes[name], 0)


def test_who_begins_a_long_turn_looks_away_and_comes_back():
    said = Utterance('agent', 4.0, np.zeros(5 * SAMPLE_RATE_HZ, np.float32), 'plain')
    looks = gaze.plan_gaze([said], np.zeros(300, bool), 1.0, np.random.default_rng(0))

    assert_array_equal(looks[:97], 0)
    assert (looks[97:120, 0] > 0.2).all()
    assert_array_equal(looks[130:], 0)


def test_people_blink_as_often_as_people_do(stage):
    assert 12 <= blinks_per_minute(_perform(stage).channels['eyeBlinkLeft']) <= 30


def test_a_clip_is_read_back_with_style_and_truth_and_the_same_seed_makes_the_same_bytes(
    tmp_path, stage
):
    dialogue, voices, *_ = stage
    mood = style.draw_style(_N_FRAMES, False, np.random.default_rng(1))
    mood[:, -1] = 1  # eager: every cue is answered, but those in a row
    for folder in (tmp_path / 'first', tmp_path / 'again'):
        folder.mkdir()
        performed = _perform(stage, mood, seed=5)
        for party in ('agent', 'user'):
            write_voice(folder / f'0000_{party}.wav', voices[party])
        write_motion(
            folder / '0000_agent.npz', performed.channels, style=mood, persona=np.array('warm')
        )
        write_truth(folder / '0000_truth.json', dialogue, performed)

    clips, refused = open_clips(tmp_path / 'first', get_space('arkit55'), _FPS)
    truth = json.loads((tmp_path / 'first' / '0000_truth.json').read_text())

    assert not refused
    assert [clip.n_frames for clip in clips] == [_N_FRAMES]
    assert_allclose(clips[0].agent_motion[:, 52:], performed.neck, atol=1e-6)
    assert_allclose(clips[0].style, mood, atol=1e-6)
    assert clips[0].persona == 'warm'
    assert [cue['t_s'] for cue in truth['cues']] == pytest.approx(dialogue.cues['agent'], abs=1e-3)
    lags_s = [nod['t_s'] - truth['cues'][nod['cue']]['t_s'] for nod in truth['nods']]
    assert len(lags_s) > 0
    assert_allclose(lags_s, 0.8, atol=0.09)
    for file in (tmp_path / 'first').iterdir():
        assert file.read_bytes() == (tmp_path / 'again' / file.name).read_bytes(), file.name
