# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Be all drivers of one overlay: publish their messages, each in a namespace of its own."""

import sys
import threading
import time

from cases import CASES, chunk_of, message_class
import numpy as np
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data

# A conversation node and a plain subscription listen to each.
_N_LISTENERS = 2
_TIMEOUT_S = 60


def main(overlay: str, recording: str) -> None:
    """Wait for listeners, speak for as long as the cases say, and stay until the input ends."""
    said = np.load(recording)
    rclpy.init()
    node = rclpy.create_node('talker')
    input_ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), input_ended.set()), daemon=True).start()
    voices, infos = {}, []
    for name, case in CASES[overlay].items():
        topic, cls = f'/{name}/user/audio', message_class(case.type_name)
        qos = qos_profile_sensor_data if case.is_best_effort else QoSProfile(depth=100)
        voices[name] = (case, cls, node.create_publisher(cls, topic, qos))
        if case.info is not None:
            info = message_class('audio_common_msgs/msg/AudioInfo')
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            infos.append(node.create_publisher(info, f'/{name}/user/audio_info', latched))
            infos[-1].publish(info(**case.info))
    publishers = [publisher for *_, publisher in voices.values()] + infos
    deadline = time.monotonic() + _TIMEOUT_S
    while min(p.get_subscription_count() for p in publishers) < _N_LISTENERS:
        if time.monotonic() > deadline or input_ended.wait(0.05):
            break
    input_ended.wait(1.0)  # for the listeners to find us, too
    start, index = node.get_clock().now(), 0
    while not input_ended.is_set() and index < max(case.n_chunks for case, *_ in voices.values()):
        stamp_ns = start.nanoseconds + index * 20_000_000
        stamp = rclpy.time.Time(nanoseconds=stamp_ns).to_msg()
        while node.get_clock().now().nanoseconds < stamp_ns + 20_000_000:
            input_ended.wait(0.002)
        for case, cls, publisher in voices.values():
            if index < case.n_chunks:
                publisher.publish(case.make(cls, chunk_of(said, case, index), stamp))
        index += 1
    input_ended.wait()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == '__main__':
    main(*sys.argv[1:])
