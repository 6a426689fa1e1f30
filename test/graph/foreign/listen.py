# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Hear all drivers of one overlay: a conversation node for each, and beside it a plain subscription.

What came is left in a folder: `heard.json`, and the samples of each case.
"""

import functools
import json
import pathlib
import sys
import threading
import time

from cases import CASES, Case
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.msg import Log
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from timar_ros.msg import HeadMotionPlan
from timar_ros.nodes.conversation import ConversationNode
from timar_ros.nodes.hearing import VoiceSubscription
from timar_ros.stream.audio import format_from_info, packet_from_fields

_TIMEOUT_S = 60
_PATIENT = {'hearing_delay_ms': 140, 'plan_latency_ms': 300, 'agent_lead_ms': 700, 'threads': 1}


class Heard:
    """What came of one case."""

    def __init__(self):
        self.format, self.packets, self.types = None, [], set()
        self.texts, self.values, self.n_plans = [], {}, 0

    def take_info(self, info) -> None:
        """Take what the driver says of its audio; a refusal is the conversation node's to tell."""
        try:
            self.format = format_from_info(info)
        except ValueError:
            self.format = None

    def take(self, msg) -> None:
        """Take an audio message."""
        module = type(msg).__module__.split('.')[0]
        self.types.add(f'{module}/msg/{type(msg).__name__}')
        try:
            self.packets.append(packet_from_fields(msg, self.format))
        except ValueError:
            return

    def take_diagnostics(self, array) -> None:
        """Keep the newest values."""
        self.values = {pair.key: pair.value for pair in array.status[0].values}

    def count_plan(self, _) -> None:
        """Count a plan."""
        self.n_plans += 1

    def is_done(self, case: Case) -> bool:
        """Say whether all that the driver said was heard or refused."""
        if any('cannot be imported' in text for text in self.texts):
            return True
        is_heard = int(self.values.get('user_samples', 0)) >= case.n_heard
        is_refused = int(self.values.get('refused_messages', 0)) >= case.n_refused
        return is_heard and is_refused and (self.n_plans > 1 or not case.n_heard)

    def result(self) -> dict:
        """Return it as plain values."""
        return {
            'types': sorted(self.types),
            'n_packets': len(self.packets),
            'rate_hz': self.packets[0].sample_rate_hz if self.packets else None,
            'texts': self.texts,
            'values': self.values,
            'n_plans': self.n_plans,
        }


def main(overlay: str, checkpoint: str, out: str) -> None:
    """Listen until every case is done, or for a minute."""
    cases, heard = CASES[overlay], {name: Heard() for name in CASES[overlay]}
    # Two participants: subscriptions of one follow their publishers' type each in its own time.
    contexts = [Context(), Context()]
    for context in contexts:
        rclpy.init(context=context)
    conversing, plain = (SingleThreadedExecutor(context=context) for context in contexts)
    observer = Node('observer', context=contexts[1])
    plain.add_node(observer)
    nodes, voices = [observer], []

    def take_log(msg):
        namespace = msg.name.split('.')[0]
        if namespace in heard:
            heard[namespace].texts.append(msg.msg)

    observer.create_subscription(Log, '/rosout', take_log, 1000)
    parameters = {'checkpoint': checkpoint, **_PATIENT}
    for name, of in heard.items():
        voices.append(
            VoiceSubscription(observer, f'/{name}/user/audio', 'auto', of.take, of.take_info)
        )
        for cls, topic, take in (
            (DiagnosticArray, 'diagnostics', of.take_diagnostics),
            (HeadMotionPlan, 'agent/motion_plan', of.count_plan),
        ):
            observer.create_subscription(cls, f'/{name}/{topic}', take, 100)
        remapped = ['--ros-args', '-r', f'/diagnostics:=/{name}/diagnostics']
        node = ConversationNode(
            context=contexts[0],
            namespace=name,
            cli_args=remapped,
            parameter_overrides=[Parameter(key, value=value) for key, value in parameters.items()],
        )
        nodes.append(node)
        conversing.add_node(node)
    observer.create_timer(0.5, functools.partial(_match, voices))
    thread = threading.Thread(target=plain.spin)
    thread.start()
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        if all(heard[name].is_done(case) for name, case in cases.items()):
            break
        conversing.spin_once(timeout_sec=0.05)
    plain.shutdown()
    thread.join()
    _leave(heard, pathlib.Path(out))
    for node in nodes:
        node.destroy_node()
    for context in contexts:
        rclpy.try_shutdown(context=context)


def _match(voices) -> None:
    for voice in voices:
        voice.match()


def _leave(heard: dict[str, Heard], out: pathlib.Path) -> None:
    for name, of in heard.items():
        samples = [packet.samples for packet in of.packets] or [np.zeros((0, 1), np.float32)]
        np.save(out / f'{name}.npy', np.concatenate(samples))
    results = {name: of.result() for name, of in heard.items()}
    (out / 'heard.json').write_text(json.dumps(results))


if __name__ == '__main__':
    main(*sys.argv[1:])
