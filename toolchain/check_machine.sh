#!/usr/bin/env bash
# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
#
# Tell what this machine lacks, in one message. check_machine.sh [PYTHON]; with --missing it only prints
# the names of missing Debian packages, one a line, and succeeds.

only_names=0
if [ "${1:-}" = --missing ]; then only_names=1; shift; fi
python=${1:-python3}
missing=()

has() { command -v "$1" > /dev/null; }
has_library() { { ldconfig -p || /sbin/ldconfig -p; } 2> /dev/null | grep -q "$1"; }
# a stand-alone header proves the headers of this very Python, a system's or a self-built one
has_headers() {
  "$python" -c 'import os, sysconfig as s; exit(not os.path.exists(s.get_path("include") + "/Python.h"))'
}

has g++ || missing+=(g++)
has cmake || missing+=(cmake)
has_library libportaudio.so.2 || missing+=(libportaudio2)
if ! "$python" -c '' 2> /dev/null; then
  missing+=(python3 python3-venv python3-dev)
else
  "$python" -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
  has_headers || missing+=(python3-dev)
fi

if [ $only_names = 1 ]; then
  if [ ${#missing[@]} -gt 0 ]; then printf '%s\n' "${missing[@]}"; fi
  exit 0
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "missing Debian packages: ${missing[*]}; install them, then run make again:" >&2
  echo "  sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
if [ "$(uname -sm)" != 'Linux x86_64' ]; then
  echo "expected Linux on x86-64, for which ROS wheels exist, got $(uname -sm); source this machine's ROS" \
    "installation and run 'colcon build' (README, \"On your robot\")" >&2
  exit 1
fi
if ! "$python" -c 'import sys; exit(not (3, 10) <= sys.version_info < (3, 14))'; then
  echo "expected Python 3.10 to 3.13, for which ROS wheels exist, got $("$python" --version) as '$python';" \
    "name another: make setup PYTHON=python3.12" >&2
  exit 1
fi
