# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Sound devices: which there are, and a stream that is opened again when its device goes away.

Responsible for PortAudio, through sounddevice, whose list of devices is one for the whole process.
Not for samples.
"""

from collections.abc import Callable
import threading

from timar_ros.strict import quoted, shortened

# PortAudio opens, closes and lists devices for one caller at a time, and lists them anew only
# while no stream of this process is open; several nodes may share the process.
_portaudio = threading.Lock()
_open_streams = set()


def import_sounddevice():
    """
    Import sounddevice, which loads PortAudio.

    Raises:
        RuntimeError: one of the two is not installed; says how to install it.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise RuntimeError('sound needs sounddevice; pip install sounddevice') from error
    except OSError as error:
        raise RuntimeError(
            'sound needs the PortAudio library; apt-get install libportaudio2'
        ) from error
    return sounddevice


def list_devices(kind: str) -> str:
    """
    List the devices of a kind, one a line: index, name, sound system, channels, usual rate.

    Args:
        kind: 'input' or 'output'.
    """
    sd = import_sounddevice()
    default = _default_index(sd, kind)
    lines = [
        f'{"*" if d["index"] == default else " "} {d["index"]:3d}  {d["name"]}  '
        f'({sd.query_hostapis(d["hostapi"])["name"]}, {d[f"max_{kind}_channels"]} channels, '
        f'{d["default_samplerate"]:.0f} Hz)'
        for d in _of_kind(sd, kind)
    ]
    return '\n'.join(lines or [f'no {kind} devices'])


def find_device(wanted: str, kind: str) -> dict:
    """
    Find a device by name or index.

    Args:
        wanted: its index, its name, a part of its name that no other device has, or '' for the
            default one.
        kind: 'input' or 'output'.

    Returns:
        The device as sounddevice describes it.

    Raises:
        ValueError: there is none, or more than one; lists those that there are.
    """
    sd = import_sounddevice()
    devices = _of_kind(sd, kind)
    if wanted == '':
        found = [d for d in devices if d['index'] == _default_index(sd, kind)]
    elif wanted.isdecimal():
        found = [d for d in devices if d['index'] == int(wanted)]
    else:
        found = [d for d in devices if d['name'] == wanted]
        found = found or [d for d in devices if wanted.lower() in d['name'].lower()]
    if len(found) == 1:
        return found[0]
    what = f'{kind} device {quoted(wanted)}' if wanted else f'default {kind} device'
    known = ', '.join(f'{d["index"]} {d["name"]!r}' for d in found or devices) or 'none'
    raise ValueError(
        f'{len(found)} {kind} devices match {quoted(wanted)}: {known}; give more of the name'
        if found
        else f'no {what}; there are: {known}'
    )


def open_stream(make: Callable, device: dict, **settings):
    """
    Make a stream on a device.

    Args:
        make: `sounddevice.InputStream` or `OutputStream`.
        device: as `find_device` returns it.
        settings: of the stream, without its device.

    Raises:
        ValueError: the device refuses; says which, at what, and why.
    """
    sd = import_sounddevice()
    try:
        return make(device=device['index'], dtype='float32', **settings)
    except sd.PortAudioError as error:
        raise ValueError(
            f'{device["name"]!r} cannot be opened at {settings["samplerate"]} Hz with '
            f'{settings["channels"]} channels ({_reason(error)}); if another program has it, end '
            'that, else set sample_rate_hz and channels to what it has (--list)'
        ) from None


def told_ns(delay_s: float) -> int | None:
    """Return a delay that PortAudio reports, in ns; None if it is impossible."""
    return round(delay_s * 1e9) if 0.0 < delay_s < 2.0 else None


class KeptStream:
    """
    A stream on a sound device, opened again whenever the device goes away.

    A thread of its own opens it, serves it, and tries again every `retry_s` after it is lost; each
    loss and each return is logged once.

    Args:
        open_stream: takes the callback to call when the stream finishes, returns the stream. Its
            ValueError is for the user.
        serve: does what the stream needs until the event it gets is set. May raise TimeoutError
            where nothing comes any more.
        logger: of the node.
        retry_s: pause between attempts.

    Attributes:
        trouble: why there is no stream, '' while there is one.
    """

    def __init__(self, open_stream: Callable, serve: Callable, logger, retry_s: float):
        self._open_stream = open_stream
        self._serve = serve
        self._logger = logger
        self._retry_s = retry_s
        self.trouble = ''
        self._is_flushing = False
        self._closing = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name='sound', daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Discard samples that were handed to the device and not played; returns at once."""
        self._is_flushing = True
        self._gone.set()

    def close(self) -> None:
        """Close the stream and wait for the thread."""
        self._closing.set()
        self._gone.set()
        self._thread.join()

    def _run(self) -> None:
        sd = import_sounddevice()
        while not self._closing.is_set():
            reason = self._attempt(sd)
            if self._closing.is_set():
                return
            if reason != self.trouble:
                self._logger.warning(f'{reason}; trying again every {self._retry_s:g} s')
            self.trouble = reason
            self._closing.wait(self._retry_s)

    def _attempt(self, sd) -> str:
        """Open the stream and serve it until it is gone; returns why it is."""
        self._gone.clear()
        if self._closing.is_set():  # which `close` says before it sets `_gone`
            return ''
        try:
            if self.trouble:
                _rescan(sd)
            stream = self._open()
            if self.trouble:
                self._logger.info('the sound device is back')
            self.trouble = ''
            return self._serve_until_gone(sd, stream)
        except (ValueError, TimeoutError) as error:
            return str(error)
        except sd.PortAudioError as error:
            return f'the sound device fails: {_reason(error)}'
        except Exception as error:  # or the node would be deaf or mute for good
            return f'the sound device fails: {type(error).__name__}: {shortened(str(error), 200)}'

    def _open(self):
        with _portaudio:
            stream = self._open_stream(self._gone.set)
            try:
                stream.start()
            except Exception:
                stream.close()
                raise
            _open_streams.add(stream)
        return stream

    def _serve_until_gone(self, sd, stream) -> str:
        try:
            while True:
                self._serve(self._gone)
                if not self._is_flushing or not stream.active:
                    return 'the sound device went away'
                self._is_flushing = False
                stream.abort()  # which ends the stream, and says so
                self._gone.clear()
                if self._closing.is_set():
                    return 'closing'
                stream.start()
        finally:
            with _portaudio:
                _open_streams.discard(stream)
                stream.close()


def _rescan(sd) -> None:
    """Read the list of devices again, so that one plugged in since is found."""
    with _portaudio:
        if not _open_streams:
            sd._terminate()
            sd._initialize()


def _reason(error: Exception) -> str:
    """Return PortAudio's words without its prefix and number."""
    return str(error).split(': ')[-1].split(' [PaErrorCode')[0]


def _of_kind(sd, kind: str) -> list[dict]:
    return [d for d in sd.query_devices() if d[f'max_{kind}_channels'] > 0]


def _default_index(sd, kind: str) -> int:
    return sd.default.device[0 if kind == 'input' else 1]
