# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for the life of a process with nodes: start, refusal in one sentence, run, rest, end.

Not for what the nodes do. Every program of `nodes/` ends through here, so that each signal at each
moment leads to the same end.
"""

import re
import sys
import traceback

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from timar_ros.nodes.ending import EndRequest
from timar_ros.nodes.environment import prepare
from timar_ros.nodes.executor import FaultTolerantExecutor
from timar_ros.nodes.param_files import check_arguments
from timar_ros.nodes.topic_types import explain_types
from timar_ros.nodes.usage import check_words, help_text, own_words
from timar_ros.strict import shortened

# What a constructor refuses with a sentence for the user; anything else is a fault of the code.
_RCL_PLACE = re.compile(r',? \(?\bat (?:/|\./)[^\s,()]*:\d+\)?')
REFUSALS = (ValueError, OSError, RuntimeError, NameValidationException, ParameterException)


def run(name: str, make, args=None, is_over=lambda: False, params=None, options=None) -> None:
    """
    Run nodes until a signal, then bring the head to rest and destroy them.

    Exits with 1 and one sentence where a node refuses to start, or the command line holds a word
    that nobody reads. `--help` prints the usage instead.

    Args:
        name: of the program, put before that sentence.
        make: returns the nodes; called once ROS is up.
        args: of ROS; None: those of the command line.
        is_over: looked at after each callback; True ends the run.
        params: dataclass of the node's parameters; None: the command line is checked already.
        options: words that the node takes besides ROS's -> what they do.
    """
    words = sys.argv[1:] if args is None else args
    if params is not None and {'-h', '--help'} & set(own_words(words)):
        sys.stdout.write(help_text(name, params, options or {}))
        return
    request = EndRequest()
    nodes, executor = [], None
    try:
        try:
            if params is not None:
                check_words(words, params, options or {})
            _init(args)
            nodes = list(make())
        except REFUSALS as error:
            sys.exit(f'{name}: {_sentence(error)}')
        executor = FaultTolerantExecutor()
        for node in nodes:
            executor.add_node(node)
        request.spin(executor, is_over)
    finally:
        end(nodes)
        if executor is not None:
            executor.shutdown()  # before the context, which it would miss
        rclpy.try_shutdown()


def construct(node_class, **options):
    """Make a node; if its constructor fails, destroy what it has made, threads and ports too."""
    node = node_class.__new__(node_class)
    explain_types(node)
    try:
        node.__init__(**options)
    except BaseException:
        _destroy(node, is_half_built=True)
        raise
    return node


def end(nodes) -> None:
    """Let heads come to rest, then destroy the nodes; what fails does not keep the others."""
    for node in nodes:
        if hasattr(node, 'come_to_rest'):
            try:
                node.come_to_rest()
            except Exception:
                if rclpy.ok():  # else nothing can be sent any more
                    traceback.print_exc()
    for node in reversed(list(nodes)):
        _destroy(node)


def _destroy(node, is_half_built: bool = False) -> None:
    try:
        node.destroy_node()
    except Exception:
        if not is_half_built:
            traceback.print_exc()
            return
        try:  # its own end may need what was not made yet
            Node.destroy_node(node)
        except Exception:  # not even the node of rclpy was made
            return


def _sentence(error: Exception) -> str:
    """Return the text of a refusal on one line, without rcl's places in its source."""
    text = ' '.join(str(error).split())
    is_rcls = type(error).__name__ == 'RCLError'  # what follows the first place is its inside
    return shortened(_RCL_PLACE.split(text)[0] if is_rcls else _RCL_PLACE.sub('', text), 2000)


def _init(args) -> None:
    """Initialize ROS without signal handlers."""
    check_arguments(args)
    prepare()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
