# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags cut off, or with flipped bytes, anywhere: messages that were written, or one sentence."""

import resource

from backports import zstd
import numpy as np
import pytest

from timar_ros.stream.bag import Bag

TOPIC = '/user/audio'
N = 40


@pytest.fixture
def good(bags, tmp_path):
    """Return a maker of a bag's file: storage -> its bytes."""

    def make(storage):
        folder = tmp_path / 'good'
        with bags.Writer(folder, storage.removesuffix('.zstd')) as bag:
            for i in range(N):
                samples = np.random.default_rng(i).integers(-9000, 9000, 320).astype(np.int16)
                bag.write_chunks(TOPIC, samples, begin_ns=i * 10**9)
        content = next(p for p in folder.iterdir() if p.suffix != '.yaml').read_bytes()
        return zstd.compress(content) if storage.endswith('.zstd') else content

    return make


def read(path, bags):
    """Return time, rate and samples of all messages that can be read."""
    with Bag(path, bags.definitions) as bag:
        messages = list(bag.messages({TOPIC}))
        decoded = [m for m in messages if m.content is not None]
        assert all(m.problem for m in messages if m.content is None)
        return [(m.received_ns, bytes(np.asarray(m.content.data))) for m in decoded], bag.notes


STORAGES = ('mcap', 'sqlite3', 'mcap.zstd', 'sqlite3.zstd')


@pytest.mark.parametrize('storage', STORAGES)
def test_of_a_file_cut_off_anywhere_what_is_read_was_written(good, bags, tmp_path, storage):
    content, path = good(storage), tmp_path / 'x.mcap'
    path.write_bytes(content)
    whole, notes = read(path, bags)
    assert len(whole) == N and notes == []
    counts = []
    for length in np.linspace(0, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:length])
        try:
            found, notes = read(path, bags)
        except ValueError as error:
            assert str(error).startswith(f'{path}: ') and len(str(error)) < 800
            found = []
        else:
            is_missed = len(found) < N
            assert not is_missed or notes
        assert set(found) <= set(whole)
        counts.append(len(found))
    if not storage.endswith('.zstd'):  # a packed block is read as a whole
        assert np.corrcoef(counts, np.arange(60))[0, 1] > 0.8


@pytest.mark.parametrize('storage', STORAGES)
def test_flipped_bytes_cost_little_and_end_in_messages_or_one_sentence(
    good, bags, tmp_path, storage
):
    content, path = good(storage), tmp_path / 'x.mcap'
    rng = np.random.default_rng(11)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_read = 0
    for i in range(120):
        broken = bytearray(content)
        # every second time near the beginning, where headers are
        until = len(broken) if i % 2 else min(4000, len(broken))
        for at in rng.integers(0, until, rng.integers(1, 4)):
            broken[at] = rng.choice([0, 0x7F, 0xFF, rng.integers(256)])
        path.write_bytes(broken)
        try:
            found, notes = read(path, bags)
        except ValueError as error:
            assert str(path) in str(error) and len(str(error)) < 1000
        else:
            n_read += bool(found)
            assert len(found) <= N and all(len(note) < 600 for note in notes)
    assert n_read > (0 if storage.endswith('.zstd') else 60)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 600_000  # kB
