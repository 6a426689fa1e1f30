# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags made on the spot: any storage, any message, with its definition or without."""

from pathlib import Path
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from timar_ros.config import TimingConfig
from timar_ros.learn.bag_recording import read_bag
from timar_ros.motion import get_space
from timar_ros.stream.bag_topics import Topics

RATE = 16000
LEAD_NS = 160_000_000
BEGIN_NS = 1_700_000_000_000_000_000
CHUNK = 320
SPACE = get_space('flame56')
# In proportion to the tiny model's turn of 0.16 s.
TIMING = TimingConfig(
    replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=160, plan_latency_ms=40, blend_ms=80
)
MSG = Path(__file__).resolve().parents[3] / 'msg'
OURS = {f'timar_ros/msg/{path.stem}': path.read_text() for path in MSG.glob('*.msg')}


class BagWriter:
    """Writes messages given as nested dictionaries."""

    def __init__(self, path, storage='mcap', definitions=OURS):
        self.store = get_typestore(Stores.ROS2_JAZZY)
        types = {}
        for name, text in definitions.items():
            types.update(get_types_from_msg(text, name))
        self.store.register(types)
        plugin = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}[storage]
        self._writer = Writer(path, version=9, storage_plugin=plugin)
        self._connections = {}
        self.definition = None  # written into the bag in place of its own

    def __enter__(self):
        self._writer.open()
        return self

    def __exit__(self, *_exception):
        self._writer.close()

    def connect(self, topic, kind):
        key = topic, kind
        if key not in self._connections:
            options = {'typestore': self.store}
            if self.definition:
                options = {'msgdef': self.definition, 'rihs01': self.store.hash_rihs01(kind)}
            self._connections[key] = self._writer.add_connection(topic, kind, **options)
        return self._connections[key]

    def write(self, topic, kind, received_ns, **fields):
        data = self.store.serialize_cdr(self.make(kind, **fields), kind)
        self.write_raw(topic, kind, received_ns, data)

    def write_raw(self, topic, kind, received_ns, data):
        self._writer.write(self.connect(topic, kind), received_ns, data)

    def make(self, kind, **fields):
        return self.store.types[kind](**fields)

    def time(self, ns):
        sec, nanosec = divmod(ns, 10**9)
        return self.make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)

    def header(self, ns):
        return self.make('std_msgs/msg/Header', stamp=self.time(ns), frame_id='')

    def write_chunks(
        self, topic, samples, begin_ns=BEGIN_NS, lead_ns=0, is_sent=True, clock_ns=0, rate=RATE
    ):
        """Write a voice `[n]` as AudioChunks; `clock_ns`: recording clock minus stamps."""
        for start in range(0, len(samples), CHUNK):
            piece = samples[start : start + CHUNK]
            stamp = begin_ns + start * 10**9 // rate
            sent = stamp - lead_ns if lead_ns else stamp + len(piece) * 10**9 // rate
            self.write(
                topic,
                'timar_ros/msg/AudioChunk',
                sent + clock_ns,
                header=self.header(stamp),
                sample_rate=rate,
                channels=1,
                encoding='pcm_s16le',
                first_sample=start,
                sent=self.time(sent if is_sent else 0),
                data=np.frombuffer(piece.tobytes(), np.uint8),
            )


def _voice(seed: int, seconds: float = 1.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.round(3000 * rng.standard_normal(int(seconds * RATE))).astype(np.int16)


def _read(path, topics=None):
    return read_bag(path, SPACE, LEAD_NS, topics or Topics())


def _forget_definitions(path):
    """Make a sqlite3 bag one of Humble's, which holds no definitions."""
    with sqlite3.connect(next(path.glob('*.db3'))) as database:
        database.execute('DELETE FROM message_definitions')


@pytest.fixture(scope='session')
def bags():
    """
    Return makers of bags and a reader.

    Writer(path, storage, definitions), in a `with`; voice(seed, seconds) -> int16 `[n]` at 16 kHz;
    read(path, topics) -> recording; forget_definitions(path); and what they have in common.
    """
    return SimpleNamespace(
        Writer=BagWriter,
        voice=_voice,
        read=_read,
        forget_definitions=_forget_definitions,
        begin_ns=BEGIN_NS,
        lead_ns=LEAD_NS,
        rate_hz=RATE,
        chunk=CHUNK,
        space=SPACE,
        timing=TIMING,
        definitions=OURS,
    )
