# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How much memory messages hold, of any type."""

import array
import time

from geometry_msgs.msg import Quaternion
import numpy as np
import pytest
from std_msgs.msg import Int64, String, UInt8MultiArray

from timar_ros.msg import AudioChunk, HeadMotion, HeadMotionPlan, HeadStyle
from timar_ros.nodes.message_size import held_bytes


class Nested:
    """A message whose samples lie two levels down, as those of audio_common_msgs do."""

    class Audio:
        int16_data = array.array('h', bytes(30_000_000))
        float32_data = array.array('f')

        def get_fields_and_field_types(self):
            return {'int16_data': 'sequence<int16>', 'float32_data': 'sequence<float>'}

    audio = Audio()

    def get_fields_and_field_types(self):
        return {'audio': 'audio_common_msgs/Audio'}


@pytest.mark.parametrize(
    ('msg', 'at_least'),
    [
        (AudioChunk(data=array.array('B', bytes(640))), 640),
        (Nested(), 30_000_000),
        (UInt8MultiArray(data=bytes(5_000_000)), 5_000_000),
        (String(data='x' * 1_000_000), 1_000_000),
        (HeadStyle(emotion='x' * 1_000_000, persona='y' * 1_000_000), 2_000_000),
        (HeadMotion(expression=array.array('f', bytes(4_000_000))), 4_000_000),
        (HeadMotionPlan(frames=[HeadMotion() for _ in range(3000)]), 3_000_000),
        (Int64(data=2**62), 100),
        (Quaternion(), 100),
        (np.zeros((1000, 2), np.float32), 8000),
        (b'', 0),
        (7, 0),
        (None, 0),
    ],
)
def test_a_message_counts_about_as_many_bytes_as_it_holds(msg, at_least):
    assert at_least <= held_bytes(msg) <= 4 * at_least + 10_000


def test_the_size_of_a_message_costs_little_however_large_it_is():
    msg = HeadMotionPlan(frames=[HeadMotion()] * 300_000)
    begun_s = time.process_time()
    for _ in range(100):
        held_bytes(msg)

    assert time.process_time() - begun_s < 5.0  # each frame in turn would take a minute
