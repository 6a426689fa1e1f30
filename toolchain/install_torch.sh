#!/usr/bin/env bash
# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
#
# Put torch into .venv: install_torch.sh cpu|cuda|system
#   cpu     the build without CUDA, 200 MB
#   cuda    the build on PyPI, with CUDA, 3 GB
#   system  none: the one that the machine's Python has is used

set -euo pipefail
version=2.13.0
constraints=toolchain/constraints.txt
python=.venv/bin/python
kind=$1
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

share_system_packages() {
  sed -i "s/^include-system-site-packages = .*/include-system-site-packages = $1/" .venv/pyvenv.cfg
}
pip_install() { toolchain/pip.sh install --constraint $constraints "$@"; }

# On PyPI the only build for Linux is the one with CUDA. Another index or folder may be configured that
# has the small one; else uv knows PyTorch's own index. Why each failed matters only if all fail.
install_cpu_build() {
  if pip_install "torch==$version+cpu" 2>> "$errors"; then return; fi
  if pip_install uv 2>> "$errors" && "$python" -m uv pip install --quiet --python "$python" \
    --constraint $constraints --torch-backend=cpu "torch==$version" 2>> "$errors"; then return; fi
  echo "PyTorch's CPU build cannot be had from here; taking PyPI's, which is large (3 GB)" >&2
  if pip_install "torch==$version"; then return; fi
  echo "and these were the reasons before:" >&2
  sed '/^$/d' "$errors" >&2
  return 1
}

share_system_packages false
pip_install numpy  # torch looks for it when it is imported
case $kind in
  cpu) install_cpu_build ;;
  cuda) pip_install "torch===$version" ;;  # === refuses 2.13.0+cpu
  system) toolchain/pip.sh uninstall --yes torch; share_system_packages true ;;
  *) echo "expected TORCH=cpu, cuda or system, got TORCH=$kind" >&2; exit 1 ;;
esac

"$python" -c 'import torch; print("torch", torch.__version__, "from", torch.__path__[0])' || {
  echo "torch cannot be imported; with TORCH=system this machine's own Python must have it" >&2
  exit 1
}
