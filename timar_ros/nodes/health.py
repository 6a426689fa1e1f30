# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for how the conversation node is doing: rates, latency, losses, in words.

Also for which counters mean trouble when they grow. Not for publishing, nor for reading a clock.
"""

import numpy as np

# Growing means that something is wrong now, with what to say of it.
TROUBLE = {
    'late_plans': 'plans come too late to be shown',
    'skipped_moments': 'planning moments are left out',
    'bad_plans': 'planned motion is not finite',
    'dropped_messages': 'messages are dropped because the worker is behind',
    'refused_messages': 'messages are refused, see the log',
    'user_lost_samples': "the user's audio has holes",
    'user_late_samples': "the user's audio comes late",
    'missing_user_frames': "the user's audio came too late to be heard, or not at all",
    'clock_jumps': 'the clock jumped',
    'faults': 'planning failed, see the log',
}


def percentiles(values, name: str) -> dict[str, float]:
    """Return p50 and p99 of some times in ms, by name; nothing where there are none."""
    if not len(values):
        return {}
    p50, p99 = np.percentile(np.fromiter(values, float), [50, 99])
    return {f'{name}_p50_ms': round(float(p50), 2), f'{name}_p99_ms': round(float(p99), 2)}


def session_health(session, worker) -> tuple[dict, dict]:
    """Return counters and figures of a conversation that runs, by name."""
    counters = {
        **session.counters,
        'late_plans': session.n_late_plans,
        'skipped_moments': session.n_skipped_moments + session.n_passed_moments,
        'dropped_messages': worker.n_overflowed,
    }
    figures = {'pending_jobs': worker.n_pending}
    for name in ('latency', 'engine', 'added'):
        figures.update(percentiles(getattr(session.times, name).copy(), name))
    return counters, figures


class Health:
    """Report how counters changed since the previous call of `look`."""

    def __init__(self):
        self._counters: dict[str, float] = {}
        self._steady_s: float | None = None

    def look(self, counters: dict, figures: dict, rates: tuple, steady_s: float):
        """
        Summarise the changes since the previous call.

        Args:
            counters: name -> count since the start; those of `TROUBLE` warn when they grow.
            figures: name -> value to show unchanged.
            rates: names of counters to show per second, too.
            steady_s: of a clock that never jumps.

        Returns:
            What is wrong, in words ('' for nothing), and all that there is to show, by name.
        """
        grown = {name: count - self._counters.get(name, 0) for name, count in counters.items()}
        elapsed_s = None if self._steady_s is None else steady_s - self._steady_s
        self._counters, self._steady_s = dict(counters), steady_s
        troubles = [
            f'{text} ({grown[name]} more)'
            for name, text in TROUBLE.items()
            if grown.get(name, 0) > 0
        ]
        shown = dict(figures)
        for name in rates:
            if elapsed_s:
                shown[f'{name}_hz'] = round(grown.get(name, 0) / elapsed_s, 1)
        shown.update(counters)
        return '; '.join(troubles), shown
