#!/usr/bin/env python3
# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Make user.wav and agent.wav beside this file: a small dialogue, synthesised.

Needs Debian's flite (voices slt and rms), numpy, scipy and soxr. The two files are of equal
length, mono, 16 bits, and play at the same time: questions and answers, backchannels into the
other's sentences, an overlap, a long pause. Run it again only to change the dialogue:

    python config/demo/make_voices.py
"""

import pathlib
import subprocess
import tempfile

import numpy as np
from scipy.io import wavfile
import soxr

RATE_HZ = 12000  # keeps both files together under 2 MB; the node resamples
VOICES = {'user': ('slt', 0.20), 'agent': ('rms', 0.16)}  # flite voice, peak
LEAD_IN_S, LEAD_OUT_S = 1.0, 1.5

# Who, seconds after the end of the line before (negative: into it), what. Backchannels ('*') do
# not move the end of the line before.
DIALOGUE = [
    ('agent', 0.0, 'Hello! Good to see you. What can I do for you?'),
    ('user', 0.45, "Hi. Well, I am looking for the railway museum, and I think I'm lost."),
    ('agent*', -1.3, 'Mm hm.'),
    ('agent', 0.35, 'No problem at all. Do you see the bridge over there?'),
    ('user', 0.55, 'The one with the green lamps?'),
    ('agent', 0.25, 'Yes, exactly. Cross it, turn left, and follow the river for five minutes.'),
    ('user*', -2.6, 'Okay.'),
    ('user*', -1.0, 'Right.'),
    ('user', -0.35, 'And is it open today?'),
    ('agent', 0.9, 'Hm, let me think.'),
    ('agent', 1.6, 'Yes. It is open until six, but the last entry is at five.'),
    ('user', 0.4, "Oh no! Then I have to hurry. It's half past four already!"),
    ('agent*', -0.9, 'Uh huh.'),
    ('agent', 0.3, 'You will make it. Ask for the old steam engine.'),
    ('user', 0.4, 'Thank you so much. Bye!'),
    ('agent', 0.35, 'You are welcome. Goodbye!'),
]


def speak(voice: str, peak: float, text: str) -> np.ndarray:
    """Synthesise one line: float [n] at RATE_HZ, without silence at its ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / 'line.wav'
        subprocess.run(['flite', '-voice', voice, '-t', text, '-o', str(path)], check=True)
        rate_hz, pcm = wavfile.read(path)
    samples = soxr.resample(pcm / 32768.0, rate_hz, RATE_HZ)
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return samples * (peak / np.abs(samples).max())


def main() -> None:
    """Place all lines on one timeline and write the two voices."""
    placed, end_s = [], LEAD_IN_S
    for who, gap_s, text in DIALOGUE:
        voice = who.rstrip('*')
        samples = speak(*VOICES[voice], text)
        start_s = end_s + gap_s
        placed.append((voice, round(start_s * RATE_HZ), samples))
        if not who.endswith('*'):
            end_s = start_s + len(samples) / RATE_HZ
    tracks = {voice: np.zeros(round((end_s + LEAD_OUT_S) * RATE_HZ)) for voice in VOICES}
    for voice, start, samples in placed:
        tracks[voice][start : start + len(samples)] += samples
    for voice, track in tracks.items():
        path = pathlib.Path(__file__).with_name(f'{voice}.wav')
        wavfile.write(path, RATE_HZ, np.rint(track * 32767).astype(np.int16))


if __name__ == '__main__':
    main()
