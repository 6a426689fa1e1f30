# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Publishers of a topic that should have one.

Responsible for noticing several of them and naming their nodes. Not for what they publish.
"""

_UNKNOWN = '_NODE_NAME_UNKNOWN_'  # of a publisher whose node is not discovered yet


class PublisherWatch:
    """
    Watch a topic on which one publisher is expected.

    Call `look` about once a second. Publishers that overlap for one look (a node that hands over
    to another) are not reported; a killed one may stay in the graph for some 20 s, so the warning
    mentions it.

    Args:
        node: that looks, and logs the warning.
        topic: relative name, as remapped by the user.
        consequence: what several publishers lead to, for the warning.
    """

    def __init__(self, node, topic: str, consequence: str):
        self._node = node
        self._topic = topic
        self._consequence = consequence
        self._seen = []
        self._reported = []

    @property
    def names(self) -> list[str]:
        """Full names of the nodes that publish, sorted; a node with two publishers twice."""
        resolved = self._node.resolve_topic_name(self._topic)
        infos = self._node.get_publishers_info_by_topic(resolved)
        return sorted(full_name(info) for info in infos)

    @property
    def problem(self) -> str:
        """What was wrong at the last two looks, for diagnostics; empty if nothing was."""
        return self._text(self._reported) if self._reported else ''

    def look(self) -> None:
        """Look at the graph; warn once about each set of several publishers that lasts."""
        names = self.names
        is_lasting = len(names) > 1 and names == self._seen
        self._seen = names
        if len(names) < 2:
            self._reported = []
        elif is_lasting and names != self._reported:
            self._reported = names
            self._node.get_logger().warning(self._text(names))

    def _text(self, names) -> str:
        shown = ', '.join(names[:8])
        return (
            f'{self._topic} has {len(names)} publishers ({shown}), expected one: '
            f'{self._consequence}; stop or remap the others (a killed one disappears within 20 s)'
        )


def full_name(info) -> str:
    """Return the full name of the node of a publisher, as the graph has it."""
    if info.node_name == _UNKNOWN:
        return 'a node without a name yet'
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'
