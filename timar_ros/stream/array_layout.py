# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The layout of an array of `std_msgs` that holds audio, against its data and the stated format.

Responsible for refusing arrays whose layout says something else. Not for their samples.
"""

import math
from typing import Any

from timar_ros.strict import quoted

_MOST_DIMENSIONS = 8  # audio has two


def check_layout(layout: Any, n_values: int, n_samples: int, channels: int) -> None:
    """
    Check a MultiArrayLayout; one without dimensions, or with sizes of 0, says nothing.

    Args:
        layout: of the message.
        n_values: elements of its data.
        n_samples: of all channels that these hold, which may have several bytes each.
        channels: as stated, interleaved.

    Raises:
        ValueError: it promises other data, other channels, or channels one after the other.
    """
    sizes = [dimension.size for dimension in layout.dim[: _MOST_DIMENSIONS + 1]]
    if layout.data_offset:
        raise ValueError(
            f'layout.data_offset must be 0, got {layout.data_offset}; publish the samples alone'
        )
    if not any(sizes):
        return
    if len(sizes) > _MOST_DIMENSIONS or math.prod(sizes) not in (n_values, n_samples):
        raise ValueError(
            f'layout.dim has sizes {quoted(sizes)}, and data {n_values} values; publish samples '
            'x channels, or leave the layout empty'
        )
    for i, dimension in enumerate(layout.dim):
        if 'channel' not in dimension.label.lower():
            continue
        if dimension.size != channels:
            raise ValueError(
                f'layout.dim says {dimension.size} channels, and the stated format {channels}; '
                'correct the one that is wrong'
            )
        if channels > 1 and math.prod(sizes[i + 1 :]) > 1:
            raise ValueError(
                'layout.dim says that one channel follows the other: expected interleaved '
                'samples (channels last); transpose the array before publishing'
            )
