# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Who speaks when: turns, pauses, overlaps, interruptions, backchannels, laughter, long silences.

All that happens is decided here and known to the sample; motion only follows it.
"""

import dataclasses

import numpy as np

from timar_ros.learn.simulator.endings import end_phrase
from timar_ros.learn.simulator.recorded import Recording, find_phrases
from timar_ros.learn.simulator.scripts import BACKCHANNELS, LAUGHS, Line, write_turn
from timar_ros.learn.simulator.voices import Synthesiser, Voice

_RATE_HZ = 16000
_FPS = 25
PARTIES = ('agent', 'user')
# What is said next, and how often: after a question, after anything else.
_REPLIES = {'answer': 0.6, 'story': 0.4}
_TURNS = {
    'user': {'story': 0.55, 'instructions': 0.25, 'small talk': 0.08, 'question': 0.12},
    'agent': {'story': 0.4, 'instructions': 0.15, 'small talk': 0.15, 'reaction': 0.05,
              'question': 0.25},
}  # fmt: skip
# A cue is at least this much speech with a low end (Ward and Tsukahara 2000), after which its
# speaker goes on: by that a listener knows it from a turn's end, or from a speaker who thinks.
_CUE_SPEECH_S = 0.7
_CUE_ENDINGS = ('fall', 'dip', 'low', 'final')
_CUE_PAUSE_S = (0.15, 0.45)
_OTHER_PAUSE_S = (0.15, 0.7)
# How often speakers think of what comes next, after low ends and other ones, and how long.
_P_THINKS = {True: 0.3, False: 0.2}
_THINKING_S = (0.7, 2.5)
# How often nobody goes on after a turn, and how long; its logarithm is uniform.
_P_SILENCE = 0.28
_SILENCE_S = (0.8, 8.0)
# The last words of a turn, which are no cue. Real ones lie a few semitones below the rest (-2 to
# -5 in the median of real conversations), as cues do: that nobody goes on tells them.
_LAST_ENDINGS = ('plain', 'final', 'low', 'drawn', 'faint')


@dataclasses.dataclass(frozen=True)
class Utterance:
    """
    One phrase in a conversation.

    Attributes:
        party: who speaks.
        start_s: of its first sample, on the grid of frames.
        samples: float32 `[n]`.
        ending: as heard (`endings.ENDINGS`).
        kind: 'phrase', 'backchannel' or 'laugh'.
        mouth: `[F, C]` if it was filmed.
        ends_turn: nothing more is said in this turn.
    """

    party: str
    start_s: float
    samples: np.ndarray
    ending: str
    kind: str = 'phrase'
    mouth: np.ndarray | None = None
    ends_turn: bool = False

    @property
    def end_s(self) -> float:
        """When its sound ends."""
        return self.start_s + len(self.samples) / _RATE_HZ


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """
    A conversation before anybody moves.

    Attributes:
        duration_s: of all of it, whole frames.
        utterances: in no order.
        cues: party who heard it -> times of cues for a nod, s: a low phrase end of the other, who
            goes on soon.
        events: party who heard it -> (time, 'question' or 'laugh').
        turns: (party, start, end) in order.
    """

    duration_s: float
    utterances: list[Utterance]
    cues: dict[str, list[float]]
    events: dict[str, list[tuple[float, str]]]
    turns: list[tuple[str, float, float]]

    def of(self, party: str) -> list[Utterance]:
        """Return what one party says, in order."""
        return sorted((u for u in self.utterances if u.party == party), key=lambda u: u.start_s)

    def voice(self, party: str) -> np.ndarray:
        """Return the clean voice of one party, float32 `[n]` at 16 kHz."""
        samples = np.zeros(round(self.duration_s * _RATE_HZ), np.float32)
        for utterance in self.of(party):
            start = round(utterance.start_s * _RATE_HZ)
            slot = samples[start : start + len(utterance.samples)]
            slot += utterance.samples[: len(slot)]
        return samples


class ScriptedSpeaker:
    """Says whatever the script has, in a synthetic voice."""

    def __init__(self, voice: Voice, synthesiser: Synthesiser):
        self._voice, self._synthesiser = voice, synthesiser
        self.name = voice.name

    def say(self, line: Line) -> tuple[np.ndarray, None]:
        """Return samples, float32 `[n]`, and no mouth."""
        return end_phrase(self._synthesiser.speak(self._voice, line.text), line.ending), None


class RecordedSpeaker:
    """
    Says the phrases of a recording in order, whatever the script has; its mouth is real.

    Phrases of 1 to 5 s, parted where the recording pauses. Without a mouth (`is_filmed` false)
    phrases are bent as the script wants them; those that are to end as a turn's last words may
    (`_LAST_ENDINGS`) end as they were spoken.
    """

    def __init__(self, recording: Recording, first: int, is_filmed: bool):
        self.name = recording.name
        self._recording, self._is_filmed = recording, is_filmed and recording.mouth is not None
        spans: list[list[int]] = []
        for start, end in find_phrases(recording.samples, 0.15):
            if spans and end - spans[-1][0] < 4 * _RATE_HZ:
                spans[-1][1] = end
            else:
                spans.append([start, end])
        self._spans = [span for span in spans if span[1] - span[0] > 0.8 * _RATE_HZ]
        self._next = first

    def say(self, line: Line) -> tuple[np.ndarray, np.ndarray | None]:
        """Return samples, float32 `[n]`, and the mouth `[F, C]` or None."""
        start, end = self._spans[self._next % len(self._spans)]
        self._next += 1
        start = start * _FPS // _RATE_HZ * _RATE_HZ // _FPS  # on the grid of the mouth
        samples = self._recording.samples[start:end]
        if not self._is_filmed:
            is_bent = line.ending not in _LAST_ENDINGS
            return end_phrase(samples, line.ending) if is_bent else samples, None
        first = start * _FPS // _RATE_HZ
        n_frames = len(samples) * _FPS // _RATE_HZ + 1
        return samples, self._recording.mouth[first : first + n_frames]


def _draw(shares: dict[str, float], rng: np.random.Generator) -> str:
    names = list(shares)
    return names[rng.choice(len(names), p=np.array(list(shares.values())) / sum(shares.values()))]


class _Stage:
    """A conversation while it is put together."""

    def __init__(self, speakers: dict, duration_s: float, rng: np.random.Generator):
        self.speakers, self.duration_s, self.rng = speakers, duration_s, rng
        self.utterances: list[Utterance] = []
        self.cues: dict[str, list[float]] = {party: [] for party in PARTIES}
        self.events: dict[str, list[tuple[float, str]]] = {party: [] for party in PARTIES}
        self.turns: list[tuple[str, float, float]] = []

    def place(self, party: str, line: Line, start_s: float, kind: str = 'phrase', **more) -> float:
        """Let `party` say a line; return when it ends, or infinity if it would not fit."""
        samples, mouth = self.speakers[party].say(line)
        start_s = round(start_s * _FPS) / _FPS
        if start_s + len(samples) / _RATE_HZ > self.duration_s - 0.5:
            return np.inf
        utterance = Utterance(party, start_s, samples, line.ending, kind, mouth, **more)
        self.utterances.append(utterance)
        return utterance.end_s

    def take_turn(self, party: str, lines: list[Line], start_s: float) -> float:
        """Let `party` say some lines, with pauses that invite the other; return their end."""
        other, rng, now_s = PARTIES[party == 'agent'], self.rng, start_s
        promises: list[tuple[int, float]] = []  # utterances, and time, before each cue in a row
        for n, line in enumerate(lines):
            is_last = n == len(lines) - 1
            is_low = line.ending == 'fall'
            if is_low:
                line = Line(line.text, rng.choice(_LAST_ENDINGS if is_last else _CUE_ENDINGS))
            thinks = rng.random() < _P_THINKS[is_low]
            before = len(self.utterances), now_s
            end_s = self.place(party, line, now_s, ends_turn=is_last)
            if not np.isfinite(end_s):
                if promises:  # of more, which does not come: unsaid, or the ear would hear cues
                    del self.cues[other][-len(promises) :]
                    n_said, now_s = promises[0]
                    del self.utterances[n_said:]
                break
            cued = is_low and not (is_last or thinks) and end_s - now_s >= _CUE_SPEECH_S
            promises = [*promises, before] if cued else []
            now_s = end_s
            if line.ending == 'rise':
                self.events[other].append((end_s, 'question'))
            if is_last:
                break
            if cued:
                self.cues[other].append(end_s)
                if rng.random() < 0.2:
                    self.place(other, Line(rng.choice(BACKCHANNELS), 'plain'), end_s + 0.55,
                               'backchannel')  # fmt: skip
            pause_s = _THINKING_S if thinks else _CUE_PAUSE_S if cued else _OTHER_PAUSE_S
            now_s += rng.uniform(*pause_s)
        if np.isfinite(end_s) and rng.random() < 0.08:
            laugh_s = self.place(party, Line(rng.choice(LAUGHS), 'plain'), end_s + 0.2, 'laugh')
            if np.isfinite(laugh_s):
                self.events[other].append((end_s + 0.2, 'laugh'))
                end_s = laugh_s
        if now_s > start_s:
            self.turns.append((party, start_s, min(now_s, self.duration_s)))
        return end_s

    def interrupt(self, end_s: float) -> float:
        """Cut what was said last, a little after the other begins; return when that is."""
        last = self.utterances[-1]
        if last.kind != 'phrase' or last.end_s - last.start_s < 1.5:
            return end_s
        start_s = round((last.end_s - self.rng.uniform(0.5, 0.9)) * _FPS) / _FPS
        n_kept = int((start_s + 0.35 - last.start_s) * _RATE_HZ)
        samples = last.samples[:n_kept].copy()
        samples[-800:] *= np.linspace(1, 0, 800)
        self.utterances[-1] = dataclasses.replace(last, samples=samples)
        party, turn_start_s, _ = self.turns[-1]
        self.turns[-1] = (party, turn_start_s, self.utterances[-1].end_s)
        other = PARTIES[party == 'agent']
        self.events[other] = [event for event in self.events[other] if event[0] < start_s]
        return start_s


def converse(
    speakers: dict, topics: list[str], duration_s: float, rng: np.random.Generator
) -> Dialogue:
    """
    Let agent and user talk.

    Gaps between turns are normal around 0.2 ± 0.15 s, -0.3 to 0.6 s (model.md §8: about 200 ms);
    one turn in four ends in a silence of 0.8 to 8 s; 6 % are interrupted. Inside a turn, a pause
    of 0.15 to 0.45 s follows a low end (a cue), of 0.15 to 0.7 s any other; but after three low
    ends in ten, and one other in five, the speaker thinks for 0.7 to 2.5 s (no cue). At one cue
    in five the listener says 'mhm' after 0.55 s. 8 % of the turns end in laughter.

    Args:
        speakers: 'agent' and 'user', with `say`.
        topics: to talk about, one for a few turns.
        duration_s: of the conversation; whole frames.
        rng: draws all of it.
    """
    stage = _Stage(speakers, duration_s, rng)
    party = PARTIES[rng.integers(2)]
    topic, kind = rng.choice(topics), 'small talk'
    now_s = rng.uniform(0.5, 3.0)
    while np.isfinite(now_s) and now_s < duration_s - 2:
        lines = write_turn(kind, topic, rng)
        is_question = kind == 'question'
        end_s = stage.take_turn(party, lines, now_s)
        if not np.isfinite(end_s) or not stage.turns:
            break
        if rng.random() < _P_SILENCE and not is_question:
            now_s = end_s + np.exp(rng.uniform(*np.log(_SILENCE_S)))
            party = PARTIES[rng.integers(2)]
        else:
            if rng.random() < 0.06:
                now_s = stage.interrupt(end_s)
            else:
                now_s = end_s + np.clip(rng.normal(0.2, 0.15), -0.3, 0.6)
            party = PARTIES[party == 'agent']
        kind = _draw(_REPLIES if is_question else _TURNS[party], rng)
        if rng.random() < 0.2:
            topic = rng.choice(topics)
    return Dialogue(duration_s, stage.utterances, stage.cues, stage.events, stage.turns)
