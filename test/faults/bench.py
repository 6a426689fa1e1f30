# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Play every fault, and hours of conversation full of them, and write the table.

    python test/faults/bench.py --hours 4 --conversations 2 --out docs/faults.md

Stopped, it continues where it was: what is done lies in --state. After a change of the code,
delete that folder.
"""

import argparse
import os
import pathlib
import pickle
import sys
import tempfile

from compare import AFTER_S, play_clean, play_fault, problems, row_of, table
from face_faults import face_problems, face_table, play_face_faults
from faults import FAULTS, silences
from neck_faults import NECK_FAULTS, neck_problems, neck_table, play_neck_fault
from node_faults import NODE_FAULTS, node_problems, node_table, play_node_fault
import numpy as np
from simulation import Stage, make_conversation, read_dialogue, tiny_model
from soak import Soak, run, worst
from speaker_faults import SPEAKER_FAULTS, play_speaker_fault, speaker_problems, speaker_table
import torch

_BEGIN_S = 8.26
_SILENCE_S = 600.0
_N_NECK_CONVERSATIONS = 20

_TEXT = """# What can go wrong, and what the robot makes of it

Written by `make bench-faults` (hours; it continues where it was stopped); the same faults,
shorter, are part of `make test`. They are made in [faults.py](../test/faults/faults.py),
[node_faults.py](../test/faults/node_faults.py), [neck_faults.py](../test/faults/neck_faults.py),
[speaker_faults.py](../test/faults/speaker_faults.py) and
[face_faults.py](../test/faults/face_faults.py).

{verdict}

## The conversation: how it is measured

The weights are tiny and random, with turns of 1 s, and hold the head 28.6 degrees down, so that a
jump to neutral would show. They remember one turn: two turns after a fault nothing of it is left
to remember, and motion that is still off would be the machinery's doing. (The shipped weights
remember more: what they did not hear stays unheard in their memory for as long.) *Off* is the
angle to the same conversation without the fault; by itself the head moves by about 0.9 degrees,
one standard deviation. Limits:

- the head goes to where a fault leads it, and back, by the blend of plans and never by a jump: a
  frame moves it at most a third (a blend of two frames is three equal steps) of the way between
  two plans, each of them off by what is said, and 0.5 degrees further than the largest frame
  without the fault. Each frame of a new plan is, to 0.001 degrees, no further on the way from the
  plan before it to the new draft than the blend takes it: a third, two thirds, all of it. (In the
  hours of conversation this counts the stretch before each fault, too.) On the node: at most 5
  degrees in a frame, 8 where DDS decides which of two publishers is heard, 11 where it has glided
  to rest and comes back;
- two turns after the fault's end the head is at most 0.3 degrees off, after minutes of silence 1,
  because the loudness of the voices is learned again then;
- 5 s after its end the user is heard at most 12 dB too soft. One loud packet changes nothing, and
  what had to be clipped never counts as the loudness of the voice: after 3 s of integers sent as
  floats the limit is 3 dB;
- counters tell of each fault, and at most 4 MiB of audio and motion are held.

## Faults of the audio, without ROS

{audio}

Packets that are `refused` raise an error that says what to repair, and the next packet is taken as
usual. On the node they are counted and logged, and so are plans that come too late.

## Faults around the conversation node, on a real graph

{node}

*Grown* is this process, which the publishers share. DDS keeps a message of 30 MB several times,
most of it for the sender: a node that got 14 of them from another process grew by 28 MiB with the
first one and by nothing after it.

## Faults around the neck, without ROS

Share of each limit that was used at most, by what was sent: 1 is the limit, and wild plans use all
of it. Each fault on all robots and both outputs, on random plans. *jump*: by how much a new
trajectory differs from the one that a controller is playing, in units of what is allowed.
*arrival*: velocity by the time of arrival, of targets that are streamed; 1 is 1.1 times its limit.
*resume*: the way from the last target before a pause to the first after it; 1 is what a stop takes
that began with the pause. Where one sample is wrong or samples are missing for a while in the
midst of motion, every message must be the one that is sent without that, and motion must always
begin where the joints are. `make fuzz-neck` plays a million random turns.

{neck}

## What an utterance loses on its way to the speaker, without ROS

An utterance of 1 s with a fault; half a second after it another one without, which must be spoken
in full.

{speaker}

## Messages that no face can show

Sent to a face node while a page looks. Each must be counted, and the next plan shown.

{face}

## {n_conversations} conversations of {hours:.2f} hours

{soak}
"""


def _audio_rows():
    dialogue = read_dialogue()
    begun = play_clean(Stage(make_conversation(tiny_model())), dialogue, 0, _BEGIN_S)
    cleans, rows, found = {}, [], []
    for fault in FAULTS + silences(_SILENCE_S):
        seconds = fault.duration_s + AFTER_S
        if seconds not in cleans:
            cleans[seconds] = play_clean(begun.fork(), dialogue, _BEGIN_S, _BEGIN_S + seconds)
        faulty = play_fault(begun.fork(), dialogue, fault, _BEGIN_S, np.random.default_rng(0))
        rows.append(row_of(fault, _BEGIN_S, faulty, cleans[seconds]))
        found += [f'{fault.name}: {text}' for text in problems(fault, rows[-1])]
        _say(f'{fault.name}: {rows[-1].step_deg:.2f}, {rows[-1].right_deg:.3f} degrees')
    return rows, found


def _node_rows():
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    domain_id, rows, found = _domain_id(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for fault in NODE_FAULTS:
            rows.append(play_node_fault(fault, domain_id, pathlib.Path(folder)))
            found += [f'{fault.name}: {text}' for text in node_problems(fault, rows[-1])]
            _say(f'{fault.name}: {rows[-1].step_deg:.2f}, {rows[-1].right_deg:.3f} degrees')
    return rows, found


def _neck_rows():
    rows = [play_neck_fault(fault, _N_NECK_CONVERSATIONS) for fault in NECK_FAULTS]
    return rows, [f'{row.name}: {text}' for row in rows for text in neck_problems(row)]


def _speaker_rows():
    rows, found = [], []
    for fault in SPEAKER_FAULTS:
        rows.append(play_speaker_fault(fault))
        found += [f'{fault.name}: {text}' for text in speaker_problems(fault, rows[-1])]
    return rows, found


def _face_rows():
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    rows = play_face_faults(_domain_id())
    return rows, [f'{row.name}: {text}' for row in rows for text in face_problems(row)]


def _domain_id() -> int:
    return int(os.environ.get('ROS_DOMAIN_ID', 0)) or 1 + os.getpid() % 100


def _kept(path: pathlib.Path, make):
    """Return what a run before this one made, or make it and keep it."""
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(made))
    return pickle.loads(path.read_bytes())


def _soak_text(soaks: list[Soak]) -> str:
    rows = [row for soak in soaks for row in soak.rows]
    lines = [
        f'{len(rows)} faults in random order, each compared with a copy of the conversation made',
        'just before it. Worst of each:',
        '',
        '| fault | times | largest step ° (without) | off at most ° | off two turns later ° '
        '| held KiB |',
        '|---|---|---|---|---|---|',
    ]
    for n, row in worst(rows):
        lines.append(
            f'| {row.name} | {n} | {row.step_deg:.2f} ({row.clean_step_deg:.2f}) '
            f'| {row.off_deg:.2f} | {row.right_deg:.3f} | {row.peak_kib:.0f} |'
        )
    lines += [
        '',
        '| conversation | hours | memory of the process MiB | held KiB | median plan ms |',
        '|---|---|---|---|---|',
    ]
    lines += [line for number, soak in enumerate(soaks, 1) for line in _growth(number, soak)]
    return '\n'.join(lines)


def _growth(number: int, soak: Soak) -> list[str]:
    lines, n_parts = [], min(4, len(soak.samples))
    for part in np.array_split(np.arange(len(soak.samples)), n_parts) if n_parts else ():
        of = [soak.samples[i] for i in part]
        lines.append(
            f'| {number} | {of[0].at_s / 3600:.1f} to {of[-1].at_s / 3600:.1f} '
            f'| {max(sample.rss_mib for sample in of):.0f} '
            f'| {max(sample.held_kib for sample in of):.0f} '
            f'| {np.nanmedian([sample.plan_ms for sample in of]):.1f} |'
        )
    return lines


def main() -> int:
    """Run what is missing, write the page; 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--hours', type=float, default=4.0, help='of each conversation')
    parser.add_argument(
        '--conversations', type=int, default=2, help='number of processes, one conversation each'
    )
    parser.add_argument('--out', type=pathlib.Path, help='the page; without it, only figures')
    parser.add_argument('--state', type=pathlib.Path, default=pathlib.Path('build/faults'))
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    parts, found = {}, []
    for name, make, as_table in (
        ('audio', _audio_rows, table),
        ('neck', _neck_rows, neck_table),
        ('speaker', _speaker_rows, speaker_table),
        ('node', _node_rows, node_table),
        ('face', _face_rows, face_table),
    ):
        rows, problems_of_it = _kept(arguments.state / f'{name}.pickle', make)
        parts[name] = as_table(rows)
        found += problems_of_it
    soaks = run(arguments.conversations, arguments.hours, arguments.state)
    found += [
        f'conversation {number} at {at_s / 3600:.2f} h: {text}'
        for number, soak in enumerate(soaks, 1)
        for at_s, text in soak.found
    ]
    if arguments.out:
        verdict = ['Every limit was kept.']
        if found:
            verdict = ['**Not kept:**', '', *(f'- {text}' for text in found)]
        text = _TEXT.format(
            verdict='\n'.join(verdict),
            **parts,
            n_conversations=len(soaks),
            hours=min(soak.at_s for soak in soaks) / 3600,
            soak=_soak_text(soaks),
        )
        arguments.out.write_text(text)
    for text in found:
        _say(f'PROBLEM {text}')
    return 1 if found else 0


def _say(text: str) -> None:
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()


if __name__ == '__main__':
    sys.exit(main())
