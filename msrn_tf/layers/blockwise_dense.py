"""A Dense layer that is saved in parts, for kernels that should not be in memory three times."""

from typing import Any

import keras
import numpy as np

from msrn_tf.in_place import read_rows

BLOCK_NUMBERS = 2**24


@keras.saving.register_keras_serializable("msrn_tf")
class BlockwiseDense(keras.layers.Dense):
    """`keras.layers.Dense`; a kernel of more than 16 million numbers is saved as blocks of rows.

    The published head for COCO has 264 million. Keras copies a variable twice to save it; here it is a block that is
    copied. Smaller kernels are saved as `keras.layers.Dense` saves them.
    """

    def save_own_variables(self, store: Any) -> None:
        if not self._blocks():
            super().save_own_variables(store)
            return
        for start, stop in self._blocks():
            store[f"kernel_from_{start}"] = read_rows(self.kernel, start, stop)
        if self.use_bias:
            store["bias"] = self.bias

    def load_own_variables(self, store: Any) -> None:
        if "0" in store:
            super().load_own_variables(store)
            return
        kernel = np.empty(self.kernel.shape, self.kernel.dtype)
        for start, stop in self._blocks():
            kernel[start:stop] = store[f"kernel_from_{start}"]
        self.kernel.assign(kernel)
        if self.use_bias:
            self.bias.assign(store["bias"])

    def _blocks(self):
        """`(start, stop)` rows of the blocks of a large kernel; empty for a small one."""
        rows, columns = self.kernel.shape
        step = max(1, BLOCK_NUMBERS // columns)
        return [(start, min(start + step, rows)) for start in range(0, rows, step)] if rows > step else []
