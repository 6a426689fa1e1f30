# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Several processes that train one model together, as torchrun starts them; or one alone.

Each takes its share of every batch, and what they found is averaged, so that the weights stay
the same in all of them and equal to those of one process with the whole batch.
"""

import dataclasses
import os

import torch
import torch.distributed


@dataclasses.dataclass(frozen=True)
class Processes:
    """
    The processes of one run, seen from one of them.

    Attributes:
        rank: which one this is; 0 writes files.
        n: how many there are.
    """

    rank: int = 0
    n: int = 1

    @classmethod
    def join(cls, device: str) -> tuple['Processes', str]:
        """
        Meet the others that torchrun started, if it did.

        Args:
            device: 'cpu', or 'cuda' for the GPU of this process's number on its machine.

        Returns:
            the processes, and the device of this one.
        """
        if 'WORLD_SIZE' not in os.environ or 'RANK' not in os.environ:  # torchrun's interface
            return cls(), device
        is_gpu = device.startswith('cuda')
        if is_gpu:
            device = f'cuda:{os.environ.get("LOCAL_RANK", 0)}'
            torch.cuda.set_device(device)
        torch.distributed.init_process_group('nccl' if is_gpu else 'gloo')
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size()), device

    def leave(self) -> None:
        """Part from the others."""
        if self.n > 1:
            torch.distributed.barrier()  # none ends while another still talks to it
            torch.distributed.destroy_process_group()

    def share(self, first: int, n: int) -> range:
        """
        Say which of `n` windows from `first` on are this process's.

        Raises:
            ValueError: they cannot be shared evenly.
        """
        if n % self.n:
            raise ValueError(
                f'batch_size must be a multiple of the {self.n} processes, got {n}; '
                'change batch_size, or --nproc-per-node of torchrun'
            )
        mine = n // self.n
        return range(first + self.rank * mine, first + (self.rank + 1) * mine)

    def average(self, tensors: list[torch.Tensor]) -> None:
        """Replace float tensors by their means over all processes, in place."""
        if self.n == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.n
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
