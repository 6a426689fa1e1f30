# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The colors of user and agent in every picture, report and page.

Responsible for these two. Not for other colors. Vermillion and blue of Okabe and Ito: people with
any color vision see them as different, on white (4.0 and 5.2 to 1) and on the dark page of the
face (5.1 and 3.9 to 1), whose `face.css` repeats them.
"""

VOICE_COLORS = {'user': '#d55e00', 'agent': '#0072b2'}
