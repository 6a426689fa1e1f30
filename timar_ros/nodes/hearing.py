# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Subscription to one voice, of any known type and with the reliability of its publishers.

Responsible for following the graph: who publishes on a topic, as what. Not for what the messages
hold; they are passed on as they came.
"""

from rclpy.qos import DurabilityPolicy, QoSProfile

from timar_ros.nodes.matching import reliability_for
from timar_ros.nodes.message_class import message_class
from timar_ros.nodes.publishers import full_name
from timar_ros.stream.audio_types import AUDIO_CHUNK, AUDIO_INFO, is_known, preference
from timar_ros.strict import shortened

# Chunks of 20 ms: 4 s of a stalled executor.
_DEPTH = 200
# Looks without a message after which another type that is there, too, is tried.
_SILENT_LOOKS = 4
# Failures of the middleware in a row after which they are reported; a type that has just been
# dropped may still be in use.
_N_FAILURES = 3
_MOST_NAMED = 8  # publishers, in one warning


class VoiceSubscription:
    """
    Subscribe to one voice and stay matched to its publishers. Call `match` about once a second.

    The middleware takes one type on a topic. Of several that are published the one that is most
    surely audio is heard; where it is silent for a few seconds (its publisher was killed, and is
    still in the graph) the next one is tried. Types that cannot be heard are tried again when the
    set of published types changes.

    Args:
        node: that subscribes.
        topic: relative name, as remapped by the user.
        type_name: the message type, or 'auto' for the publishers' own.
        on_audio: called with each message.
        on_info: called with each `AudioInfo` of a driver that describes its audio there.

    Attributes:
        publishers: full names of their nodes at the last look, sorted.

    Raises:
        ValueError: `type_name` is not 'auto', and no message type that is installed here.
    """

    def __init__(self, node, topic: str, type_name: str, on_audio, on_info):
        if type_name != 'auto':
            message_class(type_name)
        self.topic = topic
        self.publishers: list[str] = []
        self._node = node
        self._type_name = type_name
        self._on_audio = on_audio
        self._on_info = on_info
        self._info = None
        self._subscription = None
        self._current: tuple | None = None  # type name and reliability of the subscription
        self._choice = ''  # type name that is wanted
        self._offered: set[str] = set()
        self._refused: dict[str, str] = {}  # type name -> why
        self._n_failures = 0
        self._n_silent = 0
        self.match()

    @property
    def problem(self) -> str:
        """Which published types cannot be heard, and why; empty if none."""
        refused = [f'{shortened(name)}: {why}' for name, why in self._refused.items()]
        unheard = sorted(self._offered - set(self._refused) - {self._heard})
        if self._heard in self._offered and unheard:
            names = ', '.join(shortened(name) for name in unheard[:4])
            refused.append(f'{names}: another type is heard, {self._heard}; stop one of them')
        return f'{self.topic}: cannot hear {"; ".join(refused[:4])}' if refused else ''

    @property
    def crowd(self) -> str:
        """What several publishers lead to, and what to do; empty for one or none."""
        if len(self.publishers) < 2:
            return ''
        return (
            f'{self.topic} has {len(self.publishers)} publishers '
            f'({", ".join(self.publishers[:_MOST_NAMED])}), expected one: where they overlap, the '
            'sample that came last is heard; stop or remap the others, or start the robot with '
            'microphone:=false speaker:=false where a recording is replayed'
        )

    def match(self) -> None:
        """Subscribe again where the publishers' types or reliability ask for it; cheap if not."""
        resolved = self._node.resolve_topic_name(self.topic)
        publishers = self._node.get_publishers_info_by_topic(resolved)
        self.publishers = sorted(map(full_name, publishers))
        offered: dict[str, list] = {}
        for info in publishers:
            offered.setdefault(info.topic_type, []).append(info.qos_profile.reliability)
        if set(offered) != self._offered:
            self._offered, self._refused, self._n_failures = set(offered), {}, 0
            self._choice = ''
        wanted = self._choose(offered)
        if wanted is None:
            # Something to be discovered by, as long as nobody publishes what we can take.
            if self._subscription is None:
                default = AUDIO_CHUNK if self._type_name == 'auto' else self._type_name
                self._subscribe(default, [])
            return
        self._subscribe(wanted, offered[wanted])

    def close(self) -> None:
        """Hear nothing any more."""
        self._drop()
        if self._info is not None:
            self._node.destroy_subscription(self._info)
            self._info = None

    @property
    def _heard(self) -> str:
        return self._current[0] if self._current else ''

    def _choose(self, offered: dict[str, list]) -> str | None:
        """Return the type to hear, None where nothing that can be heard is published."""
        names = [name for name in offered if self._type_name in ('auto', name)]
        names = sorted((n for n in names if n not in self._refused), key=preference)
        for name in list(names):
            try:
                message_class(name)
            except ValueError as error:
                self._refuse(name, error)
                names.remove(name)
        if not names:
            return None
        if self._choice not in names:
            self._n_silent, self._choice = 0, names[0]
        self._n_silent += 1
        audio = [name for name in names if is_known(name)]
        if self._n_silent > _SILENT_LOOKS and len(audio) > 1 and self._choice in audio:
            following = audio[(audio.index(self._choice) + 1) % len(audio)]
            self._n_silent, self._choice = 0, following
        return self._choice

    def _subscribe(self, type_name: str, offered) -> None:
        reliability = reliability_for(offered)
        wanted = type_name, reliability
        if self._current == wanted:
            return
        self._drop()
        qos = QoSProfile(depth=_DEPTH, reliability=reliability)
        try:
            self._subscription = self._node.create_subscription(
                message_class(type_name), self.topic, self._take, qos
            )
        except (ValueError, RuntimeError) as error:  # rclpy's own errors are RuntimeErrors
            self._n_failures += 1
            if self._n_failures == _N_FAILURES:
                self._refuse(type_name, error)
            return
        self._n_failures = 0
        self._current = wanted
        if type_name.startswith('audio_common_msgs/msg/AudioData') and self._info is None:
            self._subscribe_info()

    def _drop(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._current = None

    def _take(self, msg) -> None:
        self._n_silent = 0
        self._on_audio(msg)

    def _refuse(self, type_name: str, error: Exception) -> None:
        self._refused[type_name] = shortened(str(error), 300)
        self._node.get_logger().error(
            f'{self.topic}: cannot hear {shortened(type_name)}: {self._refused[type_name]}'
        )

    def _subscribe_info(self) -> None:
        """Hear what ros-drivers' AudioData leaves out, latched beside the audio topic."""
        resolved = self._node.resolve_topic_name(self.topic)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        try:
            self._info = self._node.create_subscription(
                message_class(AUDIO_INFO),
                resolved.rsplit('/', 1)[0] + '/audio_info',
                self._on_info,
                latched,
            )
        except (ValueError, RuntimeError) as error:
            self._node.get_logger().error(f'{self.topic}: no audio_info: {shortened(str(error))}')
