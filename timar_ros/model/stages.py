# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where the time of a model goes: a clock at each of its stages, for as long as one watches.

Knows a model's stages by the names of its methods. Changes nothing that is not being watched.
"""

from collections import defaultdict
from collections.abc import Iterator
import contextlib
import functools
import statistics
import time

import torch

from timar_ros.model.timar import TIMAR


def now_ms(device: torch.device) -> float:
    """Return a running time, ms, once the device has done all that it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() * 1e3


class Stages:
    """
    Times the stages of a model in spans, e.g. in the critical part of each turn.

    At each stage a device is waited for, so what is watched is a little slower than what is not.

    Args:
        model: whose stages to time.
    """

    def __init__(self, model: TIMAR):
        self._device = model.device
        self._methods = [
            (model.speech, 'convolve', 'speech_convolve'),
            (model.speech, 'contextualise', 'speech_context'),
            (model, 'embed', 'embed'),
            (model, 'encode', 'transformer'),
            (model.diffloss, 'sample', 'head'),
        ]
        self._spent: dict[str, float] = {}
        self._spans: dict[str, list[float]] = defaultdict(list)

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Take what runs inside as one span."""
        for owner, name, stage in self._methods:
            setattr(owner, name, self._timed(getattr(owner, name), stage))
        self._spent = {stage: 0.0 for _, _, stage in self._methods}
        start_ms = now_ms(self._device)
        try:
            yield
            self._spent['other'] = now_ms(self._device) - start_ms - sum(self._spent.values())
            for stage, spent_ms in self._spent.items():
                self._spans[stage].append(spent_ms)
        finally:
            for owner, name, _ in self._methods:
                delattr(owner, name)  # the class's own shows again

    def _timed(self, function, stage: str):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            start_ms = now_ms(self._device)
            result = function(*args, **kwargs)
            self._spent[stage] += now_ms(self._device) - start_ms
            return result

        return timed

    def p50(self) -> dict[str, float]:
        """Return the median time a span spent in each stage, ms, without those never entered."""
        medians = {stage: statistics.median(spans) for stage, spans in self._spans.items()}
        return {stage: round(median, 3) for stage, median in medians.items() if median > 0}
