# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for what a checkpoint may say of its wav2vec2: numbers, switches, known words.

Not for the encoder. transformers loads code that some texts of its configuration name, so no other
text gets through.
"""

from timar_ros.strict import quoted

_SIZES = {
    'hidden_size': 65_536,
    'intermediate_size': 262_144,
    'num_hidden_layers': 1_000,
    'num_attention_heads': 1_024,
    'num_conv_pos_embeddings': 4_096,
    'num_conv_pos_embedding_groups': 4_096,
    'num_feat_extract_layers': 32,
    'adapter_kernel_size': 1_024,
    'adapter_stride': 1_024,
    'adapter_attn_dim': 65_536,
    'num_adapter_layers': 32,
    'output_hidden_size': 65_536,
}
_SIZE_LISTS = {'conv_dim': 65_536, 'conv_stride': 1_024, 'conv_kernel': 1_024}
_LONGEST_LIST = 32
_SWITCHES = ('conv_bias', 'do_stable_layer_norm', 'add_adapter')
_SHARES = ('layer_norm_eps', 'mask_time_prob', 'mask_feature_prob')
_ACTIVATIONS = (
    *('gelu', 'gelu_new', 'gelu_fast', 'gelu_pytorch_tanh', 'quick_gelu'),
    *('relu', 'relu6', 'silu', 'swish', 'mish', 'tanh'),
)
_WORDS = {
    'feat_extract_norm': ('group', 'layer'),
    'feat_extract_activation': _ACTIVATIONS,
    'hidden_act': _ACTIVATIONS,
}
# Texts and lists of transformers that say nothing about the features of speech.
_WITHOUT_EFFECT = (
    *('architectures', 'model_type', 'transformers_version', 'dtype', 'torch_dtype'),
    *('_name_or_path', 'name_or_path', 'id2label', 'label2id', 'problem_type'),
    *('ctc_loss_reduction', 'tdnn_dim', 'tdnn_kernel', 'tdnn_dilation', 'tokenizer_class'),
    *('finetuning_task', 'task_specific_params', 'gradient_checkpointing'),
)


def check_speech_config(config: dict) -> dict:
    """
    Return what a wav2vec2 encoder may be built from.

    Args:
        config: of transformers, as a checkpoint holds it.

    Returns:
        the fields that matter for the features; numbers and switches that do not are left out.

    Raises:
        ValueError: a value is of a wrong type or too large, or an unknown field holds a text or
            a list, which may name code.
    """
    fields = {}
    for name, value in config.items():
        if name in _SIZES and value is not None:
            _check_size(name, value, _SIZES[name])
        elif name in _SIZE_LISTS:
            if not isinstance(value, list | tuple) or not 0 < len(value) <= _LONGEST_LIST:
                _refuse(name, f'a list of 1 to {_LONGEST_LIST} whole numbers', value)
            for size in value:
                _check_size(name, size, _SIZE_LISTS[name])
        elif name in _SWITCHES:
            if type(value) is not bool:
                _refuse(name, 'true or false', value)
        elif name in _SHARES:
            if type(value) not in (int, float) or not 0 <= value <= 1:
                _refuse(name, 'a number from 0 to 1', value)
        elif name in _WORDS:
            if value not in _WORDS[name]:
                _refuse(name, f'one of {", ".join(_WORDS[name])}', value)
        elif name in _WITHOUT_EFFECT or value is None or isinstance(value, int | float):
            continue
        else:
            raise ValueError(
                f'speech_config: unknown field {quoted(name)}: {quoted(value)}; it could name '
                'code to load; remove it from the checkpoint, or convert the weights again'
            )
        if value is not None:
            fields[name] = value
    return fields


def _check_size(name: str, value, largest: int) -> None:
    if type(value) is not int or not 1 <= value <= largest:
        _refuse(name, f'a whole number from 1 to {largest}', value)


def _refuse(name: str, expected: str, value) -> None:
    raise ValueError(f'speech_config: {name} must be {expected}, got {quoted(value)}')
