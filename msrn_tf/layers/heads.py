"""From aggregated features to logits: the two heads of the published code."""

from typing import Any

import keras
from keras import ops

from msrn_tf.layers.blockwise_dense import BlockwiseDense
from msrn_tf.type_names import Shape, Tensor
from msrn_tf.validation import LARGEST_DROPOUT, LARGEST_WIDTH, checked_numbers, checked_whole


@keras.saving.register_keras_serializable("msrn_tf")
class MLPHead(keras.layers.Layer):
    """The published head: tanh → flatten → Dense → LeakyReLU₀.₀₁ → Dense.

    Args:
        num_labels: int. C, the number of labels.
        hidden_units: int. Width of the hidden layer. Defaults to 2048.
        dropout: float. Rate of dropout before each Dense, in training. Defaults to 0, the published value.
        kernel_initializer: of both Dense. Defaults to `"glorot_uniform"`.

    Call arguments:
        aggregated: `[batch, C + m, F]`, labels first, then groups.
        assignment: `[C, m]`, not used: it is there so that both heads are called alike.

    Returns:
        Logits `[batch, C]`, float32.

    Examples:

    >>> head = MLPHead(num_labels=5, hidden_units=16)
    >>> tuple(head(keras.random.normal((2, 7, 24)), keras.ops.zeros((5, 2))).shape)
    (2, 5)
    """

    def __init__(
        self,
        num_labels: int,
        hidden_units: int = 2048,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.num_labels = checked_whole("num_labels", num_labels, 1, LARGEST_WIDTH)
        self.hidden_units = checked_whole("hidden_units", hidden_units, 1, LARGEST_WIDTH)
        (self.dropout,) = checked_numbers("dropout", [dropout], 1, 0.0, LARGEST_DROPOUT)

    def build(self, aggregated_shape: Shape, assignment_shape: Shape | None = None) -> None:
        _, nodes, features = self._aggregated_shape = aggregated_shape
        initializer = self.kernel_initializer
        self.hidden = BlockwiseDense(
            self.hidden_units, kernel_initializer=initializer, dtype=self.dtype_policy, name="hidden"
        )
        self.logits = keras.layers.Dense(
            self.num_labels, kernel_initializer=initializer, dtype="float32", name="logits"
        )
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")
        self.hidden.build((None, nodes * features))
        self.logits.build((None, self.hidden_units))

    def call(self, aggregated: Tensor, assignment: Tensor | None = None, training: bool | None = None) -> Tensor:
        x = ops.tanh(aggregated)
        x = ops.reshape(x, (-1, self.hidden.kernel.shape[0]))
        x = self.hidden(self.drop(x, training=training))
        x = ops.leaky_relu(x, negative_slope=0.01)
        return self.logits(self.drop(x, training=training))

    def label_gradients(self, aggregated: Tensor, assignment: Tensor | None = None) -> Tensor:
        """∂ logit[b,c] / ∂ aggregated[b,c]: each label's logit by its own features, `[batch, C, F]`, float32."""
        _, nodes, features = self._aggregated_shape  # a traced tensor's own shape may be unknown
        x = ops.tanh(aggregated)
        hidden = self.hidden(ops.reshape(x, (-1, nodes * features)))
        slope = ops.where(hidden > 0, 1.0, 0.01)
        kernel = ops.reshape(ops.cast(self.hidden.kernel, "float32"), (nodes, features, -1))[: self.num_labels]
        through_hidden = ops.expand_dims(ops.cast(slope, "float32"), 1) * ops.transpose(self.logits.kernel)
        gradients = ops.einsum("bcu,cfu->bcf", through_hidden, kernel)
        return gradients * (1 - ops.square(ops.cast(x[:, : self.num_labels], "float32")))

    def group_gradients(self, aggregated: Tensor, assignment: Tensor) -> Tensor:
        """∂ Σ_c S[c,g]·logit[b,c] / ∂ aggregated[b,C+g]: labels' logits by a group's features, `[batch, m, F]`."""
        _, nodes, features = self._aggregated_shape
        x = ops.tanh(aggregated)
        hidden = self.hidden(ops.reshape(x, (-1, nodes * features)))
        slope = ops.cast(ops.where(hidden > 0, 1.0, 0.01), "float32")
        kernel = ops.reshape(ops.cast(self.hidden.kernel, "float32"), (nodes, features, -1))[self.num_labels :]
        through_hidden = ops.einsum("bu,uc,cg->bgu", slope, self.logits.kernel, ops.cast(assignment, "float32"))
        gradients = ops.einsum("bgu,gfu->bgf", through_hidden, kernel)
        return gradients * (1 - ops.square(ops.cast(x[:, self.num_labels :], "float32")))

    def compute_output_shape(self, aggregated_shape: Shape, assignment_shape: Shape | None = None) -> Shape:
        return (aggregated_shape[0], self.num_labels)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("msrn_tf")
class ElementwiseHead(keras.layers.Layer):
    """The small head: each label's logit is the dot product of its own features and its own weight vector.

    The group part, where there are groups, is brought back to labels with the assignment S, set beside the label part,
    tanh follows::

        x[b,c]     = tanh([label[b,c] ; Σₘ S[c,m] · group[b,m]])
        logit[b,c] = Σ_f x[b,c,f] · W[c,f] + B[c]

    Args:
        num_labels: int. C, the number of labels.
        dropout: float. Rate of dropout on x, in training. Defaults to 0, the published value.

    Call arguments:
        aggregated: `[batch, C + m, F]`, labels first, then groups.
        assignment: `[C, m]`, the soft assignment of labels to groups; m may be 0.

    Returns:
        Logits `[batch, C]`, float32.

    Examples:

    >>> head = ElementwiseHead(num_labels=5)
    >>> tuple(head(keras.random.normal((2, 7, 24)), keras.ops.ones((5, 2)) / 2).shape)
    (2, 5)
    """

    def __init__(self, num_labels: int, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_labels = checked_whole("num_labels", num_labels, 1, LARGEST_WIDTH)
        (self.dropout,) = checked_numbers("dropout", [dropout], 1, 0.0, LARGEST_DROPOUT)

    def build(self, aggregated_shape: Shape, assignment_shape: Shape) -> None:
        self._features = aggregated_shape[-1]  # a traced tensor's own shape may be unknown
        width = self._features * (2 if assignment_shape[-1] else 1)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.num_labels, width),
            # The fan-in of a label's logit is its own row: `width` inputs.
            initializer=keras.initializers.RandomNormal(stddev=(1.0 / width) ** 0.5),
        )
        self.bias = self.add_weight(name="bias", shape=(self.num_labels,), initializer="zeros")
        self.drop = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy, name="dropout")

    def call(self, aggregated: Tensor, assignment: Tensor, training: bool | None = None) -> Tensor:
        labels, groups = aggregated[:, : self.num_labels], aggregated[:, self.num_labels :]
        if assignment.shape[-1]:
            groups = ops.matmul(ops.cast(assignment, groups.dtype), groups)
            labels = ops.concatenate([labels, groups], axis=-1)
        x = ops.tanh(labels)
        x = ops.cast(self.drop(x, training=training), "float32")
        return ops.sum(x * ops.cast(self.kernel, "float32"), axis=-1) + ops.cast(self.bias, "float32")

    def label_gradients(self, aggregated: Tensor, assignment: Tensor | None = None) -> Tensor:
        """∂ logit[b,c] / ∂ aggregated[b,c]: each label's logit by its own features, `[batch, C, F]`, float32."""
        x = ops.tanh(ops.cast(aggregated[:, : self.num_labels], "float32"))
        return ops.cast(self.kernel[:, : self._features], "float32") * (1 - ops.square(x))

    def group_gradients(self, aggregated: Tensor, assignment: Tensor) -> Tensor:
        """∂ Σ_c S[c,g]·logit[b,c] / ∂ aggregated[b,C+g]: labels' logits by a group's features, `[batch, m, F]`."""
        assignment = ops.cast(assignment, "float32")
        x = ops.tanh(ops.matmul(assignment, ops.cast(aggregated[:, self.num_labels :], "float32")))
        kernel = ops.cast(self.kernel[:, self._features :], "float32")
        return ops.einsum("cg,bcf->bgf", ops.square(assignment), kernel * (1 - ops.square(x)))

    def compute_output_shape(self, aggregated_shape: Shape, assignment_shape: Shape | None = None) -> Shape:
        return (aggregated_shape[0], self.num_labels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_labels": self.num_labels, "dropout": self.dropout}
