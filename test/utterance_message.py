# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A message of a TTS on `speaker/utterance`, for tests without ROS."""

import types

NO_TIME = types.SimpleNamespace(sec=0, nanosec=0)


def message(data, first=0, encoding='pcm_s16le', channels=1, rate_hz=24_000):
    """Return the fields of an AudioChunk."""
    return types.SimpleNamespace(
        header=types.SimpleNamespace(stamp=NO_TIME),
        sent=NO_TIME,
        sample_rate=rate_hz,
        channels=channels,
        encoding=encoding,
        first_sample=first,
        data=data,
    )
