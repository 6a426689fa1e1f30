# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A real sound server for a test: a private PulseAudio with a null sink, seen by PortAudio.

What is played into the sink can be recorded from its monitor, and the recording knows when each
sample sounded: the server tells the stream's position, and this file notes when it did.
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
import tempfile
import threading
import time
import wave

import numpy as np
import pytest

from timar_ros.stream.resample import Resampler

_PROGRAMS = ('pulseaudio', 'pactl', 'pacat')
_PACKAGES = 'pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins'
_RATE_HZ = 48000
_DEMO = Path(__file__).parents[3] / 'config' / 'demo'


class Recording:
    """What the sink's monitor plays, from now on, and when each sample of it sounded."""

    def __init__(self, server):
        self.rate_hz = _RATE_HZ
        # 10 ms keep the null sink from rendering further ahead than a real one.
        self._process = server.start(
            'pacat', '--record', '--verbose', '--raw', '--device=robot.monitor',
            f'--rate={_RATE_HZ}', '--channels=1', '--format=s16le', '--latency-msec=10',
        )  # fmt: skip
        self._pieces = []
        self._offsets_ns = []  # clock minus position in the stream
        self._threads = [
            threading.Thread(target=self._read_samples),
            threading.Thread(target=self._read_positions),
        ]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self._pieces) > 10, 'the recording does not begin')  # 2 s, at first

    def _read_samples(self):
        while piece := os.read(self._process.stdout.fileno(), 65536):
            self._pieces.append(piece)

    def _read_positions(self):
        while text := os.read(self._process.stderr.fileno(), 4096):
            now_ns = time.time_ns()
            if told := re.findall(rb'Time: ([0-9.]+) sec', text):
                self._offsets_ns.append(now_ns - round(float(told[-1]) * 1e9))

    def stop(self) -> tuple[np.ndarray, int]:
        """Return float32 samples, and the time at which the first of them sounded, in ns."""
        if self._process.poll() is None:
            self._process.terminate()
        for thread in self._threads:
            thread.join()
        samples = np.frombuffer(b''.join(self._pieces), '<i2').astype(np.float32) / 32768
        return samples, int(np.median(self._offsets_ns[len(self._offsets_ns) // 2 :]))


class SoundServer:
    """A private PulseAudio; PortAudio sees `robot` (a null sink) and `ear` (its monitor)."""

    def __init__(self, folder: Path):
        self._folder = folder
        socket = folder / 'native'
        script = folder / 'server.pa'
        script.write_text(
            f'load-module module-native-protocol-unix socket={socket} auth-anonymous=1\n'
        )
        config = folder / 'asound.conf'
        # NOTE: PortAudio 19.6 aborts where ALSA has no `default`.
        devices = (('robot', 'robot'), ('ear', 'robot.monitor'), ('default', 'robot'))
        config.write_text(
            ''.join(
                f'pcm.{name} {{ type pulse; server "unix:{socket}"; device {device}; '
                f'hint {{ show on; description "{name}" }} }}\n'
                for name, device in devices
            )
        )
        self.env = {
            'HOME': str(folder),
            'XDG_RUNTIME_DIR': str(folder),
            'PULSE_RUNTIME_PATH': str(folder),
            'PULSE_COOKIE': str(folder / 'cookie'),
            'PULSE_SERVER': f'unix:{socket}',
            'ALSA_CONFIG_PATH': str(config),
        }
        self._processes = []
        self._server = self.start(
            'pulseaudio', '-n', '-F', str(script), '--daemonize=no', '--use-pid-file=no',
            '--disable-shm=yes', '--exit-idle-time=60',
        )  # fmt: skip
        wait_until(self.is_up, 'the sound server does not start')
        self._module = None
        self.plug_in()

    def is_up(self) -> bool:
        return self.start('pactl', 'info').wait() == 0

    def plug_in(self) -> None:
        """Load the null sink."""
        loading = self.start(
            'pactl', 'load-module', 'module-null-sink', 'sink_name=robot',
            f'rate={_RATE_HZ}', 'channels=2', 'format=s16le',
        )  # fmt: skip
        self._module = loading.communicate()[0].decode().strip()

    def unplug(self) -> None:
        """Take the null sink and its monitor away."""
        assert self.start('pactl', 'unload-module', self._module).wait() == 0
        self._module = None

    def record(self) -> Recording:
        """Begin to record the sink's monitor."""
        return Recording(self)

    def play(self, samples: np.ndarray, rate_hz: int) -> None:
        """Begin to play float samples `[n]` into the sink."""
        sound = self._folder / 'sound.raw'
        sound.write_bytes((samples * 32767).astype('<i2').tobytes())
        self.start(
            'pacat', '--raw', '--device=robot', f'--rate={rate_hz}', '--channels=1',
            '--format=s16le', '--latency-msec=300', str(sound),
        )  # fmt: skip

    def start(self, *command) -> subprocess.Popen:
        """Start a program that sees this server only."""
        process = subprocess.Popen(
            command,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if '--verbose' not in command else subprocess.PIPE,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End the server and whatever was started."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=10)
            process.stdout.close()


def wait_until(is_done, complaint: str, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


@pytest.fixture(scope='module')
def sound_server():
    """Yield a private sound server that PortAudio in this process sees instead of any other."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f'no {", ".join(missing)}: apt-get install {_PACKAGES}')
    try:
        import sounddevice as sd
    except (ImportError, OSError) as error:
        pytest.skip(
            f'no PortAudio ({error}): apt-get install {_PACKAGES}; pip install sounddevice'
        )

    with tempfile.TemporaryDirectory(prefix='timar_sound_') as folder:
        server = SoundServer(Path(folder))
        before = {name: os.environ.get(name) for name in server.env}
        os.environ.update(server.env)
        sd._terminate()
        sd._initialize()
        try:
            if not any(device['name'] == 'robot' for device in sd.query_devices()):
                pytest.skip(f'PortAudio does not see the server: apt-get install {_PACKAGES}')
            yield server
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            server.close()


@pytest.fixture(scope='session')
def speech():
    """Return float32 `[n]`, 4 s of the demo's agent talking at a lively level, and 16000 Hz."""
    with wave.open(str(_DEMO / 'agent.wav')) as wav:
        assert (wav.getnchannels(), wav.getsampwidth()) == (1, 2)
        rate_hz = wav.getframerate()
        samples = np.frombuffer(wav.readframes(wav.getnframes()), '<i2').astype(np.float32)
    talking = samples[round(14.8 * rate_hz) : round(18.8 * rate_hz)]
    return Resampler(rate_hz, 16000).resample(talking / np.abs(talking).max() / 2), 16000
