"""What can be chosen by name or number: the values that the flags allow and the code below them knows."""

AUGMENTATIONS = ("none", "flip", "multi_scale_crop", "randaugment", "addons")
CACHED_AUGMENTATIONS = ("none", "flip")
"""Those with so few variants of a photo that the feature maps of each can be kept."""

MIXES = ("none", "mixup", "cutmix")
MAX_PIXELS = 100_000_000
"""Of a photo, unless another limit is given: larger ones are refused before they are decoded."""
READS_IN_FLIGHT = 32
"""Photos that are being read at a time, unless another number is given; `benchmarks/slow_store.py` measures it."""

STRIDES = (8, 16, 32)
"""Of the backbone's feature maps, in pixels of the image."""

MODELS = ("msrn", "gap", "gmp", "csra", "ml_decoder")
ENCODERS = ("gat", "gcn")
ATTENTIONS = ("channelwise", "cosine")
HEADS = ("mlp", "elementwise")
TAP_POOLINGS = ("auto", "published", "none")
STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
OPTIMIZERS = ("sgd", "adamw", "lion")
LOSSES = ("bce", "asl", "focal")
UNLISTED_POLICIES = ("absent", "unknown", "suspect")
SUSPECTS = ("reject", "correct")
POSITIVE_WEIGHTS = ("none", "balanced")
SAMPLINGS = ("shuffle", "balanced")
SCHEDULES = ("constant", "step", "cosine", "one_cycle")
