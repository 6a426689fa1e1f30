# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of faces that lie: pickles of any size, wrong numbers, landmarks of any text."""

import pickle
import resource

import numpy as np
import pytest

from timar_ros.motion import ARKIT_NAMES
from timar_ros.retarget.correspondence import read_landmarks
from timar_ros.retarget.face import FaceMapping, load_mapping, save_mapping
from timar_ros.retarget.mesh import read_flame


class Call:
    """Calls a function with arguments when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


RECONSTRUCT = np.zeros(3).__reduce__()[0]


@pytest.mark.parametrize(
    ('harm', 'sentence'),
    [
        (
            Call(RECONSTRUCT, np.ndarray, (200_000_000,), b'd'),
            r'an array of \(200000000,\) out of',
        ),
        (Call(RECONSTRUCT, np.ndarray, (10**12,), b'd'), r'an array of \(1000000000000,\) out of'),
        (Call(np.ndarray, (200_000_000,)), 'it makes an array in a way that numpy does not'),
        (Call(np.zeros, (200_000_000,)), 'which a FLAME model has no need of'),
    ],
)
def test_a_pickle_cannot_make_an_array_out_of_nothing(tmp_path, harm, sentence):
    (tmp_path / 'flame.pkl').write_bytes(pickle.dumps({'v_template': harm}, protocol=2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match=rf'flame.pkl is not a FLAME model: .*{sentence}'):
        read_flame(tmp_path / 'flame.pkl')

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # kB


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_arrays_in_pickles_of_any_age_are_read(tmp_path, protocol):
    content = {'v_template': np.eye(3), 'shapedirs': np.random.default_rng(1).random((3, 3, 350))}
    (tmp_path / 'flame.pkl').write_bytes(pickle.dumps(content, protocol=protocol))

    model = read_flame(tmp_path / 'flame.pkl')

    np.testing.assert_array_equal(model.vertices, content['v_template'])
    np.testing.assert_array_equal(model.displacements, content['shapedirs'][:, :, 300:])


@pytest.fixture
def mapping():
    """Return the arrays of a mapping that works."""
    cross = np.random.default_rng(2).standard_normal((len(ARKIT_NAMES), 50))
    return {'gram': np.eye(len(ARKIT_NAMES)), 'cross': cross}


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'gram': np.full((52, 52), 1e300)}, 'numbers at most 1e.30, got 1e.300'),
        ({'gram': np.triu(np.ones((52, 52)))}, 'gram must be symmetric'),
        ({'gram': np.zeros((52, 52))}, 'moves no blendshape'),
        ({'gram': np.eye(52, dtype=bool)}, 'expected gram as numbers .52, 52., got bool'),
        ({'gram': np.full((52, 52), np.nan)}, 'expected finite gram'),
        ({'cross': np.zeros((50, 52))}, r'expected cross as numbers \[52, 50\], got float64 \[50'),
        ({'names': np.arange(52)}, 'expected names as a list of texts'),
        ({'names': np.array(ARKIT_NAMES[::-1])}, 'it is of other blendshapes'),
        ({'format': np.array(3)}, 'expected format as a text, got 3'),
        ({'format': np.array('x' * 10**6)}, 'at most 1,000,000 bytes'),
    ],
)
def test_a_mapping_of_wrong_numbers_is_refused_by_name(tmp_path, mapping, changes, sentence):
    path = tmp_path / 'm.npz'
    save_mapping(path, FaceMapping(**mapping))
    with np.load(path) as arrays:
        content = {**arrays, **changes}
    np.savez_compressed(path, **content)

    with pytest.raises(ValueError, match=f'm.npz is not a face mapping: .*{sentence}') as caught:
        load_mapping(path)

    assert 'fit it again: python -m' in str(caught.value) and len(str(caught.value)) < 500


def test_a_mapping_in_half_precision_is_read(tmp_path, mapping):
    path = tmp_path / 'm.npz'
    save_mapping(path, FaceMapping(**mapping))
    with np.load(path) as arrays:
        content = {**arrays, 'gram': mapping['gram'].astype(np.float16)}
    np.savez_compressed(path, **content)

    np.testing.assert_array_equal(load_mapping(path).gram, mapping['gram'])


@pytest.mark.parametrize(
    'line', ['1', '1 2 3', '-1 2', '1.5 2', '² 3', '9' * 5000 + ' 1', '1 ' + '9' * 25, 'a b']
)
def test_landmarks_that_are_no_indices_are_refused(tmp_path, line):
    (tmp_path / 'p.txt').write_text('\n'.join(['1 2'] * 6 + [line]), encoding='utf-8')

    with pytest.raises(ValueError, match=r'p.txt: expected at least 6 lines of two vertex'):
        read_landmarks(tmp_path / 'p.txt')


def test_landmarks_may_be_commented_in_any_encoding(tmp_path):
    (tmp_path / 'p.txt').write_bytes('1 2 # Nasenflügel\n'.encode('latin-1') * 6)

    np.testing.assert_array_equal(read_landmarks(tmp_path / 'p.txt'), [[1, 2]] * 6)
