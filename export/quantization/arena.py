"""Memory that TFLite plans for the values between operations: the tensor arena."""

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from msrn_tf.quiet_import import captured_native_stderr


def arena_bytes(path):
    """Bytes from the first tensor of the arena to the end of the last.

    Without XNNPACK, which would hide its own values from the plan. Weights lie in the file and do not count; kernels'
    scratch memory, which TFLite plans in the same arena, does where it lies between tensors.
    """
    with captured_native_stderr():
        interpreter = Interpreter(
            model_path=path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        interpreter.allocate_tensors()
    written = {index for details in interpreter._get_ops_details() for index in details["outputs"]}
    written |= {details["index"] for details in interpreter.get_input_details()}
    starts, ends = [], []
    for index in written:
        view = interpreter.tensor(index)()
        start = view.__array_interface__["data"][0]
        starts.append(start)
        ends.append(start + view.nbytes)
        del view
    return max(ends) - min(starts) if starts else 0
