# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""When a face on a page is asleep, which a blink is not."""

# True once the eyes have been shut for a second; a blink takes a quarter of that.
IS_ASLEEP = (
    '(timar.shutSince = timar.face.drawn[0] > 0.99 ? timar.shutSince ?? performance.now() : null)'
    ' !== null && performance.now() - timar.shutSince > 1000'
)
