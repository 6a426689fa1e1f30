#!/usr/bin/env bash
# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
#
# The pip of .venv, quietly: pip.sh install --requirement FILE ...
# Older pips print one warning for each configured folder and package, and one for a package without a
# pyproject.toml, by the hundred; errors pass.

set -uo pipefail
{
  .venv/bin/python -m pip --quiet --disable-pip-version-check "$@" 2>&1 >&3 |
    sed -u -e '/^ *WARNING: Location .* is ignored/d' -e '/^ *DEPRECATION: /d' >&2
} 3>&1 && exit
echo 'pip failed; its reason stands above. Once it is mended (is a package index reachable from here?), run' \
  'make again: it continues where it stopped' >&2
exit 1
