"""The losses of training for `keras.Model.compile`: functions of targets and logits in which an unknown target counts
nothing."""

from msrn_tf.training.losses import asymmetric_loss, binary_crossentropy, focal_loss

__all__ = ["asymmetric_loss", "binary_crossentropy", "focal_loss"]
