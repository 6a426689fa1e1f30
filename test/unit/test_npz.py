# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Arrays come out of npz files as they were saved; a header that lies costs one sentence."""

import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest

from timar_ros.learn.clips import read_motion, style_of
from timar_ros.learn.heads import read_head
from timar_ros.learn.recording import read_motion_frames
from timar_ros.motion import get_space
from timar_ros.npz import Arrays
from timar_ros.retarget.face import load_mapping
from timar_ros.retarget.mesh import read_flame

SPACE = get_space('arkit55')
READERS = [
    Arrays,
    load_mapping,
    lambda path: read_motion(path, SPACE),
    lambda path: read_motion_frames(path, SPACE),
    read_flame,
]


def header_of(shape, dtype='<f8', version=1):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack('<H' if version == 1 else '<I', len(text))
    return b'\x93NUMPY' + bytes([version, 0]) + length + text


def write(path, **entries):
    """Write raw bytes as the entries of an npz."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f'{name}.npy', content)
    return path


def everything(path):
    arrays = Arrays(path)
    return {name: arrays[name] for name in arrays}


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_arrays_come_out_as_they_were_saved(tmp_path, save):
    saved = {
        'a': np.arange(12, dtype='>i2').reshape(3, 4),
        'b': np.asfortranarray(np.random.default_rng(1).standard_normal((3, 5))),
        'c': np.float32(7),
        'd': np.array(['jawOpen', 'ü']),
        'e': np.zeros((0, 55), np.float32),
        'f': np.array([True, False]),
        'g': np.array(b'bytes'),
    }
    save(tmp_path / 'x.npz', **saved)

    read = everything(tmp_path / 'x.npz')

    assert list(read) == list(saved)
    for name, array in saved.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype and read[name].shape == array.shape


@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [
        ('(1000000000000,)', '<f8'),
        ('(1000000, 1000000, 1000000)', '<f8'),
        ('(-1,)', '<f8'),
        ('(0, -1000000000000)', '<f8'),
        (f'({", ".join(["1"] * 40)})', '<f8'),
        ('(2**62,)', '<f8'),
        ('(1,)', '<U1000000000'),
        ('(1,)', '|O'),
        ('(1,)', '|V8'),
        ('(1,)', '<c16'),
        ('(1,)', 'nonsense'),
        ('[1]', '<f8'),
        ('(' * 3000, '<f8'),
    ],
)
@pytest.mark.parametrize('version', [1, 2, 3])
def test_a_header_that_lies_is_refused_before_anything_is_allocated(
    tmp_path, shape, dtype, version
):
    path = write(tmp_path / 'x.npz', motion=header_of(shape, dtype, version) + bytes(8))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match=r"x.npz: expected .*array 'motion'.* numpy.savez"):
        everything(path)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000  # kB


def test_pickles_are_refused_and_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return open, (str(tmp_path / 'harm'), 'w')

    np.savez(tmp_path / 'x.npz', motion=np.array([Harm()], object))
    (tmp_path / 'y.npz').write_bytes(pickle.dumps(Harm()))

    for name in 'xy':
        with pytest.raises(ValueError, match=f'{name}.npz: expected .* cannot be read as one'):
            everything(tmp_path / f'{name}.npz')
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize('read', READERS)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, read):
    path = tmp_path / 'x.npz'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('motion.npy', header_of('(100000000,)') + bytes(10**6))
    content = bytearray(path.read_bytes())
    for at in (content.find(b'PK\3\4') + 22, content.find(b'PK\1\2') + 24):
        content[at : at + 4] = struct.pack('<I', 4_000_000_000)
    path.write_bytes(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match=r'x.npz.* at most .* bytes, got 4,000,000,00'):
        read(path)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000  # kB


def test_a_bomb_that_understates_its_size_gives_what_it_stated_at_most(tmp_path):
    path = write(tmp_path / 'x.npz', motion=header_of('(10,)') + bytes(10**8))
    content = bytearray(path.read_bytes())
    true = struct.pack('<I', len(header_of('(10,)')) + 10**8)
    content = content.replace(true, struct.pack('<I', len(header_of('(10,)')) + 80))
    path.write_bytes(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match="array 'motion' is damaged"):  # the checksum tells
        everything(path)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000  # kB


@pytest.mark.parametrize('read', READERS)
@pytest.mark.parametrize(
    'content', [b'', b'PK\5\6', b'PK\3\4 cut off', b'\x80\x04N.', b'PK\5\6' + b'\xff' * 18]
)
def test_a_file_that_is_no_archive_gives_one_sentence(tmp_path, read, content):
    (tmp_path / 'x.npz').write_bytes(content)

    with pytest.raises(ValueError, match='x.npz.* cannot be read as one') as caught:
        read(tmp_path / 'x.npz')

    assert len(str(caught.value)) < 500


@pytest.mark.parametrize('read', READERS)
def test_a_file_cut_off_or_with_flipped_bytes_gives_arrays_or_one_sentence(tmp_path, read):
    names = np.array(SPACE.names)
    np.savez(
        tmp_path / 'good.npz', motion=np.zeros((9, 55), np.float32), names=names, fps=25.0,
        v_template=np.zeros((4, 3)), shapedirs=np.zeros((4, 3, 350), np.float32),
    )  # fmt: skip
    good = (tmp_path / 'good.npz').read_bytes()
    rng = np.random.default_rng(5)
    path = tmp_path / 'x.npz'
    for i in range(60):
        content = bytearray(good)
        if i < 20:
            content = content[: rng.integers(len(good))]
        else:
            heads = [good.find(b'PK', at) for at in rng.integers(0, len(good), 6)]
            for at in rng.integers(0, 60, 3):
                content[(max(rng.choice(heads), 0) + at) % len(good)] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        try:
            read(path)
        except ValueError as error:
            assert 'x.npz' in str(error) and len(str(error)) < 600


@pytest.mark.parametrize(
    'changes',
    [
        {'fps': np.arange(3)},
        {'fps': 'fast'},
        {'fps': np.array([], float)},
        {'fps': np.nan},
        {'fps': 1e-300},
        {'fps': -25.0},
        {'fps': 1e300},
        {'names': np.arange(55)},
        {'names': np.array('jawOpen')},
        {'names': np.array(['x' * 10**6] * 55)},
        {'motion': np.zeros(55)},
        {'motion': np.array([['x'] * 55] * 9)},
        {'motion': np.zeros((9, 55), bool)},
        {'motion': np.zeros((9, 55), complex)},
        {'motion': np.float64(3)},
        {'stamp_s': 'soon'},
        {'stamp_s': np.arange(9) * 1e15},
        {'stamp_s': np.full(9, np.nan)},
        {'stamp_s': np.zeros((3, 3))},
        {'stamp_s': np.arange(5.0)},
        {'stamp_s': np.float64(1)},
    ],
)
@pytest.mark.parametrize('read', [read_motion, read_motion_frames])
def test_motion_of_a_wrong_kind_shape_or_size_gives_one_sentence(tmp_path, changes, read):
    content = {'motion': np.zeros((9, 55)), 'names': np.array(SPACE.names), 'fps': 25.0}
    np.savez(tmp_path / 'x_agent.npz', **(content | changes))

    with pytest.raises(ValueError, match=r'x_agent.npz: ') as caught:
        read(tmp_path / 'x_agent.npz', SPACE)

    assert len(str(caught.value)) < 600 and 'object' not in str(caught.value)


@pytest.mark.parametrize(
    'changes',
    [
        {'style': 'happy'},
        {'style': np.float64(1)},
        {'style': np.zeros((9, 7)), 'persona': np.arange(4)},
    ],
)
def test_a_style_of_a_wrong_kind_gives_one_sentence(tmp_path, changes):
    motion = {'motion': np.zeros((9, 55)), 'names': np.array(SPACE.names), 'fps': 25.0}
    np.savez(tmp_path / 'x_agent.npz', **(motion | changes))
    head = read_head(tmp_path / 'x_agent.npz')

    with pytest.raises(ValueError, match=r'x_agent.npz: expected '):
        style_of(head, 9)


def test_numbers_of_any_width_are_read_as_motion(tmp_path):
    motion = np.random.default_rng(2).standard_normal((9, 55)).astype(np.float16)
    names = np.array(SPACE.names)
    np.savez(tmp_path / 'x.npz', motion=motion, names=names.astype('S'), fps=np.int8(25))

    read, is_valid = read_motion(tmp_path / 'x.npz', SPACE)

    assert is_valid.all()
    np.testing.assert_array_equal(read, motion.astype(np.float32))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path, value):
    np.savez(tmp_path / 'x.npz', motion=np.array([[0.0, value]]))

    with pytest.raises(ValueError, match=r'x.npz: expected finite motion, got NaN or infinity'):
        Arrays(tmp_path / 'x.npz').numbers('motion', None, 2)
    assert Arrays(tmp_path / 'x.npz').numbers('motion', 1, 2, is_finite=False).shape == (1, 2)
