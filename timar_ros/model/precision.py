# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the weights run, and which number type they have there."""

import functools
import pathlib

import torch

from timar_ros.strict import quoted

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
# x86 processors that multiply in bfloat16 say so; others only imitate it, which is slower.
_MULTIPLIES_IN_BFLOAT16 = {'avx512_bf16', 'amx_bf16'}


def check_device(device: torch.device | str) -> torch.device:
    """
    Return a device, if it is there.

    Raises:
        ValueError: torch has no device of this name, or none here; one sentence.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f'device must be cpu, cuda or cuda:1, got {quoted(device)}') from None
    n_there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == 'cuda' and (found.index or 0) >= n_there:
        raise ValueError(
            f'device must be there, got {quoted(str(found))} where torch finds {n_there} CUDA '
            'devices; set it to cpu, or install a torch and a driver that find the device'
        )
    return found


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
