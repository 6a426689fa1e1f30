# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which number type the weights have while they run."""

import functools
import pathlib

import torch

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
# x86 processors that multiply in bfloat16 say so; others only imitate it, which is slower.
_MULTIPLIES_IN_BFLOAT16 = {'avx512_bf16', 'amx_bf16'}


def find_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """
    Find a type by its name.

    Args:
        name: of DTYPES, or 'auto': bfloat16 on a CPU that multiplies in it, else float32.
        device: where the weights will be.

    Raises:
        ValueError: there is no such type.
    """
    if name == 'auto':
        is_fast = torch.device(device).type == 'cpu' and _cpu_flags() & _MULTIPLIES_IN_BFLOAT16
        name = 'bfloat16' if is_fast else 'float32'
    if name not in DTYPES:
        raise ValueError(f'dtype must be auto or one of {", ".join(DTYPES)}, got {name!r}')
    return DTYPES[name]


@functools.lru_cache(1)
def _cpu_flags() -> set[str]:
    """Return what Linux says that the processor can do; nothing on other systems."""
    try:
        told = pathlib.Path('/proc/cpuinfo').read_text(errors='replace')
    except OSError:
        return set()
    return set(next((line for line in told.splitlines() if line.startswith('flags')), '').split())
