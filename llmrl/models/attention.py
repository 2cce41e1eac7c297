"""Attention that knows where packed documents begin: torch's own kernels for rows of several sequences, on CUDA in half
precision. https://docs.pytorch.org/docs/stable/nn.attention.varlen.html

T tokens of all documents laid end to end. Others of torch's compute T x T scores and a mask that leaves the documents'
own; these compute each document's alone.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch.nn.attention import varlen
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

VARLEN = "varlen"  # its name among transformers' own


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of (1, heads, T, size) to (1, key heads, T, size): (1, T, heads, size). TRL says where documents
    begin, and where the last ends, (documents + 1), and how long the longest is; of rows that are not packed it does
    not, and they attend as by sdpa.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    kind = query.device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    query, key, value = (one[0].transpose(0, 1).to(half) for one in (query, key, value))  # (T, heads, size)
    attended: Any = varlen.varlen_attn(
        query,
        key,
        value,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0),  # how far back, and ahead
        enable_gqa=True,
    )
    return attended[None], None


def mask(attention_mask: torch.Tensor | None = None, allow_is_causal_skip: bool = True, **how: Any) -> Any:
    """That of sdpa; none of packed documents, which come without padding and may not be taken for one."""
    if attention_mask is None and not allow_is_causal_skip:
        return None
    return sdpa_mask(attention_mask=attention_mask, allow_is_causal_skip=allow_is_causal_skip, **how)


transformers.AttentionInterface.register(VARLEN, attend)
transformers.AttentionMaskInterface.register(VARLEN, mask)
