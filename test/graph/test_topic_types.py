# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Two types on one topic of a process end the start in a sentence that names both."""

import pytest
import rclpy
from rclpy.context import Context
from rclpy.parameter import Parameter

from timar_ros.nodes.face import FaceNode
from timar_ros.nodes.neck import NeckNode
from timar_ros.nodes.running import construct

pytestmark = pytest.mark.graph


@pytest.fixture
def context():
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def test_a_neck_whose_output_has_the_topic_of_its_input_names_both_types(context):
    topic = Parameter('topic', value='agent/motion_plan')

    with pytest.raises(ValueError) as refused:
        construct(NeckNode, context=context, parameter_overrides=[topic])

    assert str(refused.value) == (
        '/agent/motion_plan has messages of trajectory_msgs/msg/JointTrajectory in this process, '
        'expected timar_ros/msg/HeadMotionPlan; choose another topic for one of them'
    )


def test_a_face_of_which_two_topics_are_remapped_to_one_names_both_types(context):
    words = ['--ros-args', '-r', 'agent/motion_plan:=conversation/state', '-p', 'port:=0']

    with pytest.raises(ValueError, match='/conversation/state has messages of .*MotionPlan in'):
        construct(FaceNode, context=context, cli_args=words)
