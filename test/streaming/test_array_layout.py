# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Audio in arrays of std_msgs: their layout agrees with their data and the stated format."""

import array
from types import SimpleNamespace as Fields

import numpy as np
import pytest

from timar_ros.stream.audio import AudioFormat, packet_from_fields

STEREO = AudioFormat(16000, 2, 'S16LE')


def message(*dims, offset=0, values=range(8), kind='h'):
    dim = [Fields(label=label, size=size, stride=0) for label, size in dims]
    return Fields(layout=Fields(dim=dim, data_offset=offset), data=array.array(kind, values))


@pytest.mark.parametrize(
    'dims',
    [
        (),
        (('', 8),),
        (('samples', 4), ('channels', 2)),
        (('samples', 0), ('channels', 0)),
    ],
)
def test_a_layout_that_agrees_or_says_nothing_is_heard(dims):
    packet = packet_from_fields(message(*dims), STEREO)
    np.testing.assert_array_equal(packet.samples * 32768, np.arange(8).reshape(4, 2))


def test_sizes_in_samples_of_an_array_of_bytes_are_heard():
    bytes_of_8 = message(('samples', 4), ('channels', 2), values=[0] * 16, kind='B')
    assert packet_from_fields(bytes_of_8, STEREO).samples.shape == (4, 2)


@pytest.mark.parametrize(
    ('dims', 'offset', 'words'),
    [
        ((('', 9),), 0, r'layout.dim has sizes \[9\], and data 8 values'),
        ((('samples', 8), ('channels', 2)), 0, r'sizes \[8, 2\], and data 8 values'),
        ((('samples', 8), ('channels', 1)), 0, 'says 1 channels, and the stated format 2'),
        ((('Channels', 2), ('samples', 4)), 0, 'one channel follows the other'),
        ((), 2, 'data_offset must be 0, got 2'),
        ((('', 1),) * 10**5, 0, 'layout.dim has sizes'),
    ],
    ids=['more', 'product', 'mono', 'planar', 'offset', 'many'],
)
def test_a_layout_that_contradicts_data_or_format_is_refused(dims, offset, words):
    with pytest.raises(ValueError, match=words) as refusal:
        packet_from_fields(message(*dims, offset=offset), STEREO)
    assert len(str(refusal.value)) < 300
