"""Labelled photos: readers, the demo set, augmentation and the tf.data pipeline."""
