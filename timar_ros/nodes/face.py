# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The face: `agent/motion_plan` in, a robot face in the browser out, and blendshapes for other faces.

Responsible for topics, rates and parameters. Not for how the face looks (`face_page/`), who may
see it (`face_server`), or what an expression means (`retarget.face`).
"""

import dataclasses
import json
import time

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState

from timar_ros.bounds import MAX_PLAN_FRAMES
from timar_ros.motion import ARKIT_NAMES, quaternion_to_neck
from timar_ros.msg import ConversationState, HeadMotionPlan
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns
from timar_ros.nodes.diagnostics import Diagnostics
from timar_ros.nodes.face_config import ServerConfig
from timar_ros.nodes.face_levels import FaceLevels
from timar_ros.nodes.face_plan import face_plan
from timar_ros.nodes.face_server import FaceServer
from timar_ros.nodes.face_wire import pack_plan, pack_state
from timar_ros.nodes.hearing import VoiceSubscription
from timar_ros.nodes.matching import MatchedSubscription
from timar_ros.nodes.params import declare, parameter
from timar_ros.nodes.plan_bytes import plan_from_bytes
from timar_ros.nodes.playout import FrameQueue
from timar_ros.nodes.publishers import PublisherWatch
from timar_ros.nodes.running import construct, run
from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.retarget.action_units import EXPRESSED, action_units
from timar_ros.retarget.face import load_mapping
from timar_ros.stream.audio import format_from_info, packet_from_fields
from timar_ros.strict import shortened

try:
    from hri_msgs.msg import FacialActionUnits
except ImportError:  # not on every installation; the other topics need it not
    FacialActionUnits = None

_LEVELS_S = 0.1  # how often loudness goes out
_PUBLISH_S = 0.01  # how often frames that are due are looked for
_WATCH_S = 0.5  # how often publishers of the voice are looked for
_DIAGNOSE_S = 1.0
_REFUSED_S = 5.0  # a refused page tries again every 2 s
_MAX_REASON = 300  # characters of why a message is refused, as it may quote what a stranger sent
_SERVER = ServerConfig()


@dataclasses.dataclass(frozen=True)
class FaceParams:
    """Parameters of the face node."""

    host: str = parameter(
        _SERVER.host, 'address to serve the page on; 0.0.0.0: open to the whole network'
    )
    port: int = parameter(
        _SERVER.port, 'TCP port of the page; 0: any free one', minimum=0, maximum=65535
    )
    max_clients: int = parameter(
        _SERVER.max_clients,
        'largest number of pages connected at the same time',
        minimum=1,
        maximum=100,
    )
    allowed_hosts: tuple[str, ...] = parameter(
        _SERVER.allowed_hosts,
        'host names of this machine that browsers may use, besides localhost, its addresses, its '
        'host name and the same in .local; in upper or lower case',
    )
    allowed_frames: tuple[str, ...] = parameter(
        _SERVER.allowed_frames,
        'origins of other pages, such as a dashboard, that may show the face in a frame: scheme, '
        "name and port, such as 'http://robot.local:8080'",
    )
    mapping: str = parameter(
        '', 'file written by timar_ros.retarget.fit_face, for expressions in flame50; empty: none'
    )
    head_gain: float = parameter(
        1.0,
        'scale of the rotation of the head on the screen; 0 for a screen on a moving neck',
        minimum=0,
        maximum=2,
        dynamic=True,
    )
    screen_latency_ms: float = parameter(
        0.0,
        'delay of the screen itself, which the drawing compensates',
        unit='ms',
        minimum=0,
        maximum=500,
        dynamic=True,
    )
    agent_audio_type: str = parameter('auto', "message type of agent/audio; auto: its publisher's")

    def server_config(self) -> ServerConfig:
        """Return host, port, number of pages and accepted names of the server."""
        return ServerConfig(
            self.host, self.port, self.max_clients, self.allowed_hosts, self.allowed_frames
        )


class FaceNode(Node):
    """Shows `agent/motion_plan` as a face, on a web page and as blendshapes on topics."""

    server: FaceServer | None = None  # until there is one, as a start can be interrupted

    def __init__(self, **options):
        super().__init__('face', **options)
        params = declare(self, FaceParams, self._send_settings, options.get('cli_args'))
        self._mapping = load_mapping(params.mapping) if params.mapping else None
        self._warnings = ThrottledWarnings(self.get_logger())
        self._is_unmapped = False
        self._counters = {'plans': 0, 'refused_plans': 0, 'cut_plans': 0, 'refused_audio': 0}
        self._format = None
        self._levels = FaceLevels()
        self._frames = FrameQueue()
        self._last_ns = self._now_ns()
        self._create_publishers()
        self._voice = VoiceSubscription(
            self, 'agent/audio', params.agent_audio_type, self._on_audio, self._on_audio_info
        )
        self.server = FaceServer(params.server_config(), lambda: self._now_ns() / 1e6)
        self._send_settings(params)
        self._plans = MatchedSubscription(
            self, HeadMotionPlan, 'agent/motion_plan', self._on_plan_bytes, raw=True
        )
        self._planners = PublisherWatch(
            self, 'agent/motion_plan', 'the face shows the plans of each in turn'
        )
        self.create_subscription(
            ConversationState, 'conversation/state', self._on_state, qos_profile_sensor_data
        )
        # Steady, so that a page is served while simulated time stands.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_LEVELS_S, self._send_levels, clock=steady)
        # Goes on while there are frames to come: a hundred calls a second cost.
        self._publish_timer = self.create_timer(_PUBLISH_S, self._publish_due, clock=steady)
        self.create_timer(_WATCH_S, self._look_for_publishers, clock=steady)
        self.create_timer(_DIAGNOSE_S, self._on_diagnose, clock=steady)
        self.get_logger().info(f'the face is at {self.server.url} (full screen: ?kiosk)')

    def _look_for_publishers(self) -> None:
        self._voice.match()
        self._plans.match()

    def _create_publishers(self) -> None:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._names_pub = self.create_publisher(JointState, 'face/blendshape_names', latched)
        self._names_pub.publish(JointState(name=ARKIT_NAMES, position=[0.0] * len(ARKIT_NAMES)))
        self._blendshapes_pub = self.create_publisher(JointState, 'face/blendshapes', 10)
        self._units_pub = None
        if FacialActionUnits is not None:
            self._units_pub = self.create_publisher(FacialActionUnits, 'face/action_units', 10)
        self._diagnostics = Diagnostics(self)

    def destroy_node(self):
        """Close the server, then the node."""
        if self.server is not None:
            self.server.close()
        super().destroy_node()

    @property
    def counters(self) -> dict:
        """What happened so far, by name."""
        return {**self._counters, **self.server.counters}

    def _send_settings(self, params: FaceParams) -> None:
        settings = {
            'type': 'settings',
            'head_gain': params.head_gain,
            'screen_latency_ms': params.screen_latency_ms,
        }
        self.server.send(json.dumps(settings), keep_as='settings')

    def _on_plan_bytes(self, data: bytes) -> None:
        msg, n_cut = plan_from_bytes(data)
        if n_cut:
            self._counters['cut_plans'] += 1
            self._warnings.warn(
                f'plan {msg.plan} has {MAX_PLAN_FRAMES + n_cut} frames; the first '
                f'{MAX_PLAN_FRAMES} are read, {n_cut} are left out; publish shorter plans'
            )
        self._on_plan(msg)

    def _on_plan(self, msg: HeadMotionPlan) -> None:
        self._counters['plans'] += 1
        try:
            plan = face_plan(msg, self._mapping)
        except ValueError as error:
            self._counters['refused_plans'] += 1
            self._warnings.warn(f'refused plan {msg.plan}: {shortened(str(error), _MAX_REASON)}')
            return
        if plan.is_unmapped:
            self._say_unmapped()
        now_ns = self._now_ns()
        self.server.send(pack_plan(msg.plan, now_ns, *plan[:3]), keep_as='plan')
        if self._is_wanted():
            self._follow_clock(now_ns)
            frames = zip(plan.stamp_ns.tolist(), plan.neck, plan.arkit, strict=True)
            self._frames.replace([(frame[0], frame) for frame in frames])
            if self._publish_timer.is_canceled():
                self._publish_timer.reset()

    def _say_unmapped(self) -> None:
        if not self._is_unmapped:
            self.get_logger().warning(
                'expressions come in flame50, and there is no mapping: neck and jaw move, the '
                'rest of the face does not; fit one from your FLAME model (python -m '
                'timar_ros.retarget.fit_face --help) and set the parameter mapping'
            )
        self._is_unmapped = True

    def _on_state(self, msg: ConversationState) -> None:
        if self.server.has_clients and np.isfinite([msg.user_level_db, msg.agent_level_db]).all():
            stamp_ns = stamp_to_ns(msg.header.stamp)
            self.server.send(
                pack_state(stamp_ns, msg.state, msg.user_level_db, msg.agent_level_db)
            )

    def _on_audio(self, msg) -> None:
        if not self.server.has_clients:
            return
        try:
            self._levels.push(packet_from_fields(msg, self._format), self._now_ns())
        except Exception as error:  # any type of message may come here, with fields of any kind
            self._refuse_audio(error)

    def _on_audio_info(self, msg) -> None:
        try:
            self._format = format_from_info(msg)
        except Exception as error:
            self._refuse_audio(error)

    def _refuse_audio(self, error: Exception) -> None:
        self._counters['refused_audio'] += 1
        reason = (
            str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'
        )
        self._warnings.warn(f'agent/audio shows no level: {shortened(reason, _MAX_REASON)}')

    def _send_levels(self) -> None:
        levels = self._levels.take()
        if levels:
            self.server.send(levels)

    # Other faces

    def _is_wanted(self) -> bool:
        return bool(
            self._blendshapes_pub.get_subscription_count()
            or (self._units_pub is not None and self._units_pub.get_subscription_count())
        )

    def _follow_clock(self, now_ns: int) -> None:
        if now_ns < self._last_ns:
            self._frames.clear()  # the clock went back
        self._last_ns = now_ns

    def _publish_due(self) -> None:
        now_ns = self._now_ns()
        self._follow_clock(now_ns)
        for stamp_ns, neck, arkit in self._frames.due(now_ns)[-1:]:
            stamp = stamp_from_ns(stamp_ns)
            shapes = JointState(name=ARKIT_NAMES, position=arkit.astype(float).tolist())
            shapes.header.stamp = stamp
            self._blendshapes_pub.publish(shapes)
            if self._units_pub is not None:
                units = action_units_to_msg(action_units(arkit, quaternion_to_neck(neck)))
                units.header.stamp = stamp
                self._units_pub.publish(units)
        if not self._frames:
            self._publish_timer.cancel()

    def _on_diagnose(self) -> None:
        self._planners.look()
        troubles = [self._planners.problem] if self._planners.problem else []
        if self._is_unmapped:
            troubles.append('flame50 without a mapping: neck and jaw only')
        refusal, refused_s = self.server.refusal
        if time.monotonic() - refused_s < _REFUSED_S:
            troubles.append(f'a browser sees no face: {refusal}')
            self._warnings.warn(troubles[-1])
        self._diagnostics.publish({'url': self.server.url, **self.counters}, '; '.join(troubles))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def action_units_to_msg(units: np.ndarray):
    """Put action units `[99]` into a FacialActionUnits; those not expressed have confidence 0."""
    # Lists fit both kinds of arrays that versions of hri_msgs have, bounded and not.
    return FacialActionUnits(intensity=units.tolist(), confidence=EXPRESSED.astype(float).tolist())


def main(args=None):
    """Run the node."""
    run('face', lambda: [construct(FaceNode)], args, params=FaceParams)


if __name__ == '__main__':
    main()
