# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whatever happens to audio, joints and utterances: no jump, soon right again, nothing mute.

The faults are data (`faults.py`, `neck_faults.py`, `speaker_faults.py`); `bench.py` plays them
longer, with hours of conversation.
"""

from compare import AFTER_S, JUMP_DEG, play_clean, play_fault, problems, row_of
from faults import FAULTS, Fault, silences
from neck_faults import NECK_FAULTS, neck_problems, play_neck_fault
import numpy as np
import pytest
from simulation import Stage, largest_step_deg, make_conversation, read_dialogue, tiny_model
from soak import Soak, load, run
from speaker_faults import SPEAKER_FAULTS, play_speaker_fault, speaker_problems

from timar_ros.retarget.feedback import _JointSamples
from timar_ros.retarget.motion_clock import MotionClock
from timar_ros.retarget.neck import Neck
from timar_ros.stream.plan import PlanInForce

# Some moment in the middle of a turn.
BEGIN_S = 8.26


@pytest.fixture(scope='module')
def dialogue():
    return read_dialogue()


@pytest.fixture(scope='module')
def begun(dialogue):
    """Return a stage on which the conversation is in full swing."""
    return play_clean(Stage(make_conversation(tiny_model())), dialogue, 0, BEGIN_S)


@pytest.fixture(scope='module')
def clean(begun, dialogue):
    """Return a function: a stage that has played on without a fault, for so many seconds."""
    played = {}

    def play(seconds: float) -> Stage:
        if seconds not in played:
            played[seconds] = play_clean(begun.fork(), dialogue, BEGIN_S, BEGIN_S + seconds)
        return played[seconds]

    return play


@pytest.mark.parametrize('fault', FAULTS + silences(20.0), ids=lambda fault: fault.name)
def test_the_head_does_not_jump_is_right_again_and_counters_tell(begun, clean, dialogue, fault):
    faulty = play_fault(begun.fork(), dialogue, fault, BEGIN_S, np.random.default_rng(0))

    row = row_of(fault, BEGIN_S, faulty, clean(fault.duration_s + AFTER_S))
    assert problems(fault, row) == [], row


def test_without_a_fault_nothing_is_counted_as_one(clean):
    counters = clean(3.0 + AFTER_S).conversation.counters()

    kept = {'plans', 'turns', 'user_samples', 'agent_samples'}
    assert {name for name, n in counters.items() if n} == kept


def test_a_fault_that_is_not_mended_shows(begun, clean, dialogue):
    rng = np.random.default_rng(1)
    never_mended = Fault(
        'half of all chunks, for ever',
        lambda events, _: [event for event in events if rng.random() < 0.5],
        after=lambda events: [event for event in events if rng.random() < 0.5],
    )

    faulty = play_fault(begun.fork(), dialogue, never_mended, BEGIN_S, rng)

    row = row_of(never_mended, BEGIN_S, faulty, clean(3.0 + AFTER_S))
    assert any('two turns after its end' in text for text in problems(never_mended, row))


@pytest.mark.parametrize(
    'name',
    [
        'network jitter to 200 ms',
        'stamps 5 s ahead',
        'every second plan too late',
        'no plan for 3 s',
    ],
)
def test_a_plan_that_is_not_blended_in_shows(begun, clean, dialogue, name, monkeypatch):
    fault = next(fault for fault in FAULTS if fault.name == name)
    monkeypatch.setattr(PlanInForce, 'blend', lambda self, first, motion, n: motion)

    faulty = play_fault(begun.fork(), dialogue, fault, BEGIN_S, np.random.default_rng(0))

    row = row_of(fault, BEGIN_S, faulty, clean(fault.duration_s + AFTER_S))
    assert any('further off than a blend does' in text for text in problems(fault, row))


@pytest.mark.parametrize('n_late, n_fewer', [(1, 0), (-1, 0), (0, 1)])
def test_a_blend_with_wrong_frames_or_of_too_few_shows(
    begun, dialogue, n_late, n_fewer, monkeypatch
):
    stage, blend = begun.fork(), PlanInForce.blend
    monkeypatch.setattr(
        PlanInForce,
        'blend',
        lambda self, first, motion, n: blend(self, first + n_late, motion, n - n_fewer),
    )

    play_clean(stage, dialogue, BEGIN_S, BEGIN_S + 2)

    assert stage.jump_deg > 10 * JUMP_DEG


def test_drafts_that_differ_in_a_single_frame_are_no_jump(begun, dialogue):
    """As a model that hears a few frames more may change its mind about one frame."""
    stage = begun.fork()
    engine = stage.conversation.engine
    draft, neck = engine.draft, stage.conversation.space.neck

    def draft_with_one_frame_off(turns, state):
        motion = draft(turns, state).clone()
        n_shown = int(sum(turn.is_shown.sum() for turn in turns))
        motion.flatten(1, 2)[0, n_shown, neck] += np.float32(np.deg2rad(3.0))
        return motion

    engine.draft = draft_with_one_frame_off
    play_clean(stage, dialogue, BEGIN_S, BEGIN_S + 2)

    assert largest_step_deg(stage.neck_deg()[-50:]) > 3.0 / 3
    assert stage.jump_deg <= JUMP_DEG


@pytest.mark.parametrize('fault', NECK_FAULTS, ids=lambda fault: fault.name)
def test_a_neck_keeps_every_limit(fault):
    row = play_neck_fault(fault, n_conversations=4)

    assert neck_problems(row) == [], row


def _wait_for_samples(monkeypatch):
    update = Neck.update

    def update_if_measured(self, now_ns, lead_ns=None):
        is_measured = not self.has_begun or self.feedback.missing
        if is_measured or self.feedback.age_ns(now_ns) < 101_000_000:
            return update(self, now_ns, lead_ns)
        return False

    monkeypatch.setattr(Neck, 'update', update_if_measured)


def _believe_one_sample(monkeypatch):
    monkeypatch.setattr(_JointSamples, 'newest', lambda self, now_ns: 3 * [self.run[-1]])


def _believe_old_samples(monkeypatch):
    monkeypatch.setattr('timar_ros.retarget.feedback._FRESH_NS', 10**11)


def _send_what_is_late(monkeypatch):
    monkeypatch.setattr(Neck, 'arrives_by_ns', property(lambda self: 2**62))


def _play_what_was_not_sent(monkeypatch):
    monkeypatch.setattr(MotionClock, 'skip', lambda self, duration_ns: None)


def _play_on_after_a_pause(monkeypatch):
    monkeypatch.setattr(Neck, 'play_late', lambda self, played_ns, now_ns: True)


@pytest.mark.parametrize(
    'name, spoil, text',
    [
        ('one sample 0.3 rad off', _believe_one_sample, 'are not those that are sent without'),
        ('no samples for 0.1 s', _wait_for_samples, 'are not those that are sent without'),
        ('no samples for 3 s', _wait_for_samples, 'are not those that are sent without'),
        (
            'no samples for 3 s, moved by another meanwhile, enabled',
            _believe_old_samples,
            'begin where the joints are not',
        ),
        ('process stopped for 0.1 s', _send_what_is_late, 'limit of jump'),
        ('process stopped for 3 s', _send_what_is_late, 'limit of jump'),
        ('process stopped for 0.6 s', _play_what_was_not_sent, 'limit of arrival'),
        ('process stopped for 0.6 s', _play_on_after_a_pause, 'limit of resume'),
        ('process stopped for 3 s', _play_on_after_a_pause, 'limit of resume'),
    ],
)
def test_a_neck_that_minds_a_fault_shows(name, spoil, text, monkeypatch):
    fault = next(fault for fault in NECK_FAULTS if fault.name == name)
    if fault.is_ignored:
        play_neck_fault(fault, n_conversations=4)  # what is sent without it is kept, unspoilt
    spoil(monkeypatch)

    found = neck_problems(play_neck_fault(fault, n_conversations=4))

    assert any(text in problem for problem in found), found


@pytest.mark.parametrize('fault', SPEAKER_FAULTS, ids=lambda fault: fault.name)
def test_the_next_utterance_is_spoken_in_full(fault):
    row = play_speaker_fault(fault)

    assert speaker_problems(fault, row) == [], row


def test_hours_of_conversation_that_were_stopped_continue_bit_for_bit(tmp_path, dialogue):
    model, path = tiny_model(), tmp_path / 'soak.pickle'
    whole = Soak(model, seed=3)
    whole.go_on(dialogue)
    whole.save(path)
    whole.go_on(dialogue)

    resumed = load(path, model)
    resumed.go_on(dialogue)

    assert resumed.at_s == whole.at_s
    assert [row.name for row in resumed.rows] == [row.name for row in whole.rows]
    np.testing.assert_array_equal(resumed._stage.neck_deg(), whole._stage.neck_deg())
    assert resumed._stage.conversation.counters() == whole._stage.conversation.counters()
    assert whole.found == []


def test_conversations_in_processes_of_their_own_are_those_of_their_seeds(tmp_path, dialogue):
    alone = Soak(tiny_model(), seed=1)
    alone.go_on(dialogue)

    zero, one = run(n_conversations=2, hours=0.001, folder=tmp_path)

    assert one.at_s == alone.at_s != zero.at_s
    np.testing.assert_array_equal(one._stage.neck_deg(), alone._stage.neck_deg())
