# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of a conversation: voices and motion for `clips.py`, and what was planted."""

import json
import pathlib

import numpy as np
import scipy.io.wavfile

from timar_ros.learn.simulator.dialogue import Dialogue
from timar_ros.learn.simulator.person import Performance

_RATE_HZ = 16000
_FPS = 25


def write_voice(path: pathlib.Path, samples: np.ndarray) -> None:
    """Write a voice, float `[n]` at 16 kHz, as 16-bit wav."""
    pcm = np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)
    scipy.io.wavfile.write(path, _RATE_HZ, pcm)


def write_motion(path: pathlib.Path, channels: dict[str, np.ndarray], **more) -> None:
    """Write channels `[F]` at 25 fps as npz: motion, names, fps, and what else is given."""
    motion = np.stack(list(channels.values()), 1).astype(np.float32)
    np.savez_compressed(path, motion=motion, names=list(channels), fps=float(_FPS), **more)


def write_truth(path: pathlib.Path, dialogue: Dialogue, agent: Performance) -> None:
    """
    Write what was planted, as JSON; times in s.

    Keys: cues [{t_s, kind}] that the agent could answer with a nod; nods [{t_s, duration_s,
    cycles, amplitude_deg, cue (index or null)}] of the agent; events [{t_s, kind}], questions and
    laughter of the user; user_speech and agent_speech [[start, end]]; turns [[who, start, end]].
    """

    def spans(party: str) -> list[list[float]]:
        return [[round(u.start_s, 3), round(u.end_s, 3)] for u in dialogue.of(party)]

    truth = {
        'cues': [
            {'t_s': round(t, 3), 'kind': 'low_end_and_pause'} for t in dialogue.cues['agent']
        ],
        'nods': [
            {
                't_s': round(nod.t_s, 3),
                'duration_s': round(nod.duration_s, 3),
                'cycles': nod.cycles,
                'amplitude_deg': round(nod.amplitude_deg, 2),
                'cue': nod.cue,
            }
            for nod in agent.nods
        ],
        'events': [{'t_s': round(t, 3), 'kind': kind} for t, kind in dialogue.events['agent']],
        'user_speech': spans('user'),
        'agent_speech': spans('agent'),
        'turns': [[who, round(start, 3), round(end, 3)] for who, start, end in dialogue.turns],
    }
    path.write_text(json.dumps(truth, indent=1) + '\n')
