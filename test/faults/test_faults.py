# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whatever happens to audio, joints and utterances: no jump, soon right again, nothing mute.

The faults are data (`faults.py`, `neck_faults.py`, `speaker_faults.py`); `bench.py` plays them
longer, with hours of conversation.
"""

from compare import AFTER_S, play_clean, play_fault, problems, row_of
from faults import FAULTS, Fault, silences
from neck_faults import NECK_FAULTS, neck_problems, play_neck_fault
import numpy as np
import pytest
from simulation import Stage, make_conversation, read_dialogue, tiny_model
from soak import Soak, load
from speaker_faults import SPEAKER_FAULTS, play_speaker_fault, speaker_problems

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


@pytest.mark.parametrize('fault', NECK_FAULTS, ids=lambda fault: fault.name)
def test_a_neck_keeps_every_limit(fault):
    row = play_neck_fault(fault, n_conversations=4)

    assert neck_problems(row) == [], row


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
