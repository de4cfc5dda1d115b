"""What each mode does to which operation: recipes of litert-quantizer, by operation and by scope (docs/ondevice.md).

`int8` computes the backbone, the projections and dense layers in integers. The image's normalisation, semantic
attention and what follows it stay in float: TFLite's integer softmax has a step of 1/256, of which 784 weights of about
1/784 leave nothing, and what is small needs no integers to be fast.
"""

from typing import Any

from litert_quantizer import algorithm_manager, qtyping, recipe_manager

Operation = qtyping.TFLOperationName
Algorithm = algorithm_manager.AlgorithmName

WEIGHTED = (Operation.CONV_2D, Operation.DEPTHWISE_CONV_2D, Operation.FULLY_CONNECTED)
"""Operations that hold nearly all weights and nearly all work."""

INTEGER_SCOPES = ("backbone", "projection")
"""Parts of the network, by the names of their outputs, that `int8` computes in integers; and dense layers anywhere."""


def recipe(mode: str, joins_constants: bool = False) -> Any:
    """The recipe of a mode that litert-quantizer carries out: all but `none` and `int8_full`.

    `joins_constants`: whether the model joins constants to activations, as transformers do with the class token. Its
    concatenations then stay in float: litert-quantizer 0.11 gives such a constant a scale of its neighbour's rank.
    """
    manager = recipe_manager.RecipeManager()
    if mode == "dynamic":
        for operation in WEIGHTED:
            manager.add_dynamic_config(".*", operation, 8)
    elif mode == "float16":
        for operation in WEIGHTED:
            manager.add_weight_only_config(".*", operation, 16, algorithm_key=Algorithm.FLOAT_CASTING)
    else:
        _add_static(manager, activation_bits={"int8": 8, "int16x8": 16}[mode])
        if joins_constants:
            manager.add_quantization_config(".*", Operation.CONCATENATION, algorithm_key=Algorithm.NO_QUANTIZE)
    return manager.get_quantization_recipe()


def _add_static(manager, activation_bits):
    for scope in INTEGER_SCOPES:
        manager.add_static_config(scope, Operation.ALL_SUPPORTED, activation_bits, 8)
    manager.add_static_config(".*", Operation.FULLY_CONNECTED, activation_bits, 8)
