"""What chosen layers inside a network put out, as one layer."""

from collections.abc import Sequence
from typing import Any, Self

import keras

from msrn_tf.type_names import Tensor


@keras.saving.register_keras_serializable("msrn_tf")
class InnerOutputs(keras.layers.Layer):
    """A network that gives the outputs of some of its layers, saved by the network's own configuration.

    For networks of KerasHub whose layers, unlike the network, do not come back from their configurations.

    Args:
        network: functional model with `get_config`.
        names: of its layers, one or more.

    Call arguments:
        images: the network's input.

    Returns:
        List of tensors, one a name.

    Examples:

    >>> values = keras.Input((8,))
    >>> first = keras.layers.Dense(4, name="a")(values)
    >>> network = keras.Model(values, keras.layers.Dense(2, name="b")(first))
    >>> [tuple(output.shape) for output in InnerOutputs(network, ["a", "b"])(np.zeros((1, 8)))]
    [(1, 4), (1, 2)]
    """

    def __init__(self, network: keras.Model, names: Sequence[str], **kwargs: Any):
        super().__init__(**kwargs)
        self.network, self.names = network, list(names)
        self.inner = keras.Model(network.input, [network.get_layer(name).output for name in self.names])
        self.built = True

    def call(self, images: Tensor, training: bool | None = None) -> list[Tensor]:
        return keras.tree.flatten(self.inner(images, training=training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "names": self.names,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config | {"network": keras.saving.deserialize_keras_object(config["network"])})
