"""Memory that TFLite plans for the values between operations: the tensor arena."""

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from msrn_tf import storage
from msrn_tf.quiet_import import captured_native_stderr


def arena_bytes(path: str) -> int:
    """Bytes that tensors other than weights take at the worst moment, as TFLite lays them out: they share places.

    Without XNNPACK, which would hide its own values from the plan. Scratch memory of kernels counts where it lies
    between tensors.
    """
    content = storage.read_whole(path)  # the interpreter opens no address
    with captured_native_stderr():
        interpreter = Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        interpreter.allocate_tensors()
    written = {index for details in interpreter._get_ops_details() for index in details["outputs"]}
    written |= {details["index"] for details in interpreter.get_input_details()}
    places = []
    for index in written:
        view = interpreter.tensor(index)()
        start = view.__array_interface__["data"][0]
        places.append((start, start + view.nbytes))
        del view  # the interpreter does not run while somebody looks at its memory
    taken, reached = 0, 0
    for start, end in sorted(places):
        taken += max(0, end - max(start, reached))
        reached = max(reached, end)
    return taken
