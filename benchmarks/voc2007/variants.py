"""What the study on VOC 2007 compares: groups of variants, each a recipe (a flagfile beside this) and changes to it."""

import dataclasses
import os

from msrn_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: of the row and of its folder.
        flags: changes to the recipe.
        recipe: name of the flagfile.
        single_positive: whether one label a photo is listed for training (`single_positive.py`).
        attention: what stands in for `SemanticAttention`, of `attention_forms.py`; empty: nothing.
    """

    name: str
    flags: tuple[str, ...] = ()
    recipe: str = "frozen"
    single_positive: bool = False
    attention: str = ""

    def folder(self, runs, phase):
        """Where the runs of a phase are kept, a folder `seedN` each."""
        return os.path.join(runs, phase, self.recipe, self.name)


SHORT_WORDS = "--word_vector_norm=0.3"
"""What the group `semantics` taught."""

SMALL = ("--channels=256", "--epochs=5", SHORT_WORDS)
"""Ablations train at half of the width and for fewer epochs than the best model, so that five seeds are minutes."""

SMALLER = ("--channels=128", "--epochs=5", SHORT_WORDS)
"""Maps at strides 8 and 16 have 16 and 4 times the positions."""

BASELINE = "gap, 288 pixels"
BEST = "msrn, 288 pixels"
"""On test, of the fine-tuned MobileNetV2: `configs/voc2007_mobilenet.cfg`."""

BEST_LITE = "cosine on Lite2, rates 1e-3 and 1e-4, 6 epochs"
"""On test, of all: `configs/voc2007_lite2.cfg`."""

GAP_TUNED = ("--model=gap", "--learning_rate=3e-3", "--dropout=0.2")
GMP_TUNED = ("--model=gmp", "--learning_rate=1e-2")

AT_224 = ("--image_size=224", "--frozen_stride=4", "--word_vector_norm=0", "--mixed_precision=bfloat16")
"""What fine-tuning was before the groups `image_size` and `semantics`."""


GAP_288 = (*GAP_TUNED, "--image_size=288", "--label_graph=")
MSRN_288 = (*SMALL, "--image_size=288", "--label_graph=")
"""Without the published label graph, whose counts are of all labels."""

POLICIES = {
    "absent": (),
    "unknown": ("--unlisted=unknown",),
    "suspect, rejected": ("--unlisted=suspect", "--suspects=reject"),
    "suspect, corrected": ("--unlisted=suspect", "--suspects=correct"),
    "absent, balanced weights": ("--positive_weight=balanced",),
    "absent, balanced sampling": ("--sampling=balanced",),
}


COSINE = "--attention=cosine"
LITE0_288 = ("--backbone=efficientnet_lite0", "--backbone_weights=imagenet", "--image_size=288")


MSRN_TUNED = ("--learning_rate=2e-3", "--dropout=0.4")
"""Best on `val`, of 512 channels on EfficientNet-Lite0."""

LITE2 = ("--backbone=efficientnet_lite2",)
"""After `LITE0_288`."""


def _form(name, *flags, attention=""):
    """Of attention, on EfficientNet-Lite0."""
    return Variant(name, (*SMALL, *LITE0_288, *flags), attention=attention)


def _head(name, *flags, attention=""):
    """A method's head on a frozen EfficientNet-Lite0, or on what the flags say."""
    return Variant(name, (*LITE0_288, "--epochs=5", *flags), attention=attention)


def _wide(name, *flags, attention=""):
    """Of attention, at 512 channels on a frozen EfficientNet-Lite0."""
    return _head(f"{name}, 512 channels", SHORT_WORDS, *MSRN_TUNED, *flags, attention=attention)


def _finetuned(name, *flags, attention=""):
    """A head and EfficientNet-Lite0, trained together."""
    return Variant(name, (*LITE0_288, *flags), "finetuned", attention=attention)


def _finetuned_rates(choices, backbone="", *flags):
    """Of `(head, its rate, the backbone's rate, epochs, *flags)`, on EfficientNet-Lite0 or on what the flags say."""
    return [
        _finetuned(
            f"{head}{backbone}, rates {rate} and {backbone_rate}, {epochs} epochs",
            *flags,
            f"--model={head}",
            f"--learning_rate={rate}",
            f"--backbone_factor={float(backbone_rate) / float(rate):.3g}",
            f"--epochs={epochs}",
            *more,
        )
        for head, rate, backbone_rate, epochs, *more in choices
    ]


POOLING_AND_MSRN = (
    ("msrn", "1e-3", "1e-4", 6),
    ("gap", "3e-3", "1e-4", 6),
    ("msrn", "2e-3", "2e-4", 6),
    ("gap", "1e-2", "3e-4", 6),
    ("msrn", "1e-3", "1e-4", 12),
    ("gap", "3e-3", "1e-4", 12),
)
ML_DECODER = ("--channels=768", "--dropout=0.1")
OTHER_HEADS = (
    ("gmp", "3e-3", "1e-4", 6),
    ("gmp", "1e-2", "3e-4", 6),
    ("csra", "3e-3", "1e-4", 6),
    ("csra", "1e-2", "3e-4", 6),
    ("ml_decoder", "3e-4", "1e-4", 6, *ML_DECODER),
    ("ml_decoder", "1e-3", "2e-4", 6, *ML_DECODER),
)
BEST_OF_EACH_HEAD = (
    ("gap", "3e-3", "1e-4", 6),
    ("gmp", "3e-3", "1e-4", 6),
    ("csra", "3e-3", "1e-4", 6),
    ("ml_decoder", "3e-4", "1e-4", 6, *ML_DECODER),
    ("msrn", "1e-3", "1e-4", 6),
)
"""On `val`; gmp's was not chosen there: it has gap's rates."""


def _unlisted(model, flags):
    return [
        Variant(f"{model}, all labels", flags),
        *(Variant(f"{model}, {name}", (*flags, *policy), single_positive=True) for name, policy in POLICIES.items()),
        Variant(f"{model}, all labels, balanced weights", (*flags, "--positive_weight=balanced")),
        Variant(f"{model}, all labels, balanced sampling", (*flags, "--sampling=balanced")),
    ]


def _small(name, *flags):
    return Variant(name, (*SMALL, *flags))


def _smaller(name, *flags):
    return Variant(name, (*SMALLER, *flags))


def _pooled(model, learning_rate, dropout, epochs):
    choice = {"learning_rate": learning_rate, "dropout": dropout, "epochs": epochs}
    name = f"{model}, rate {learning_rate}, dropout {dropout}, {epochs} epochs"
    return Variant(name, (f"--model={model}", *(f"--{flag}={value}" for flag, value in choice.items())))


GROUPS = {
    # One seed each, to choose by.
    "tuning_pooled": [
        _pooled(model, *choice)
        for model in ("gap", "gmp")
        for choice in (
            ("1e-3", 0, 8),
            ("3e-3", 0, 8),
            ("1e-3", 0.4, 8),
            ("3e-3", 0.4, 8),
            ("1e-2", 0.4, 8),
            ("3e-3", 0.4, 16),
        )
    ],
    "tuning_msrn": [
        Variant("512 channels, dropout 0.4, rate 1e-3"),
        Variant("512 channels, dropout 0.6", ("--dropout=0.6",)),
        Variant("1024 channels", ("--channels=1024",)),
        Variant("no groups, 512 channels", ("--pool_ratio=0",)),
        Variant("moving average 0.995", ("--ema_decay=0.995",)),
        Variant("rate 5e-4", ("--learning_rate=5e-4",)),
        Variant("rate 2e-3", ("--learning_rate=2e-3",)),
    ],
    "tuning_finetuned": [
        Variant(
            f"{model}, backbone {factor} of the rate",
            (*flags, *AT_224, f"--backbone_factor={factor}", "--epochs=5", "--mixed_precision=none"),
            "finetuned",
        )
        for model, flags, factors in (("gap", GAP_TUNED, (0.03, 0.1)), ("msrn", (), (0.1, 0.3)))
        for factor in factors
    ]
    + [
        Variant(f"{model}, 288 pixels, trained from stride 8 on", (*flags, "--epochs=5"), "finetuned")
        for model, flags in (
            ("gap", (*GAP_TUNED, "--backbone_factor=0.03")),
            ("gmp", ("--model=gmp", "--dropout=0.2")),
            ("msrn", ()),
        )
    ],
    "image_size": [
        Variant(f"{model}, {size} pixels", (*flags, f"--image_size={size}"))
        for size in (224, 256, 288, 320)
        for model, flags in (("gap", GAP_TUNED), ("msrn, gcn", ("--encoder=gcn", "--epochs=6")))
    ],
    # Ablations, on `val`.
    "graph": [
        _small("msrn"),
        _small("no graph", "--graph_threshold=1"),
        *(_small(f"threshold {value}", f"--graph_threshold={value}") for value in (0.1, 0.2, 0.3, 0.6)),
        _small("one-hot word vectors", "--word_vectors=onehot"),
        _small("learned word vectors", "--word_vectors=learned"),
    ],
    "semantics": [
        _small("msrn"),
        *(_small(f"word vectors of length {value}", f"--word_vector_norm={value}") for value in (0.1, 1)),
        _small("word vectors as they are", "--word_vector_norm=0"),
        _small("word vectors as they are, no graph", "--word_vector_norm=0", "--graph_threshold=1"),
        _small("gcn", "--encoder=gcn"),
        _small("gcn, no graph", "--encoder=gcn", "--graph_threshold=1"),
        _small("gcn, threshold 0.1", "--encoder=gcn", "--graph_threshold=0.1"),
        _small("gcn, word vectors as they are", "--encoder=gcn", "--word_vector_norm=0"),
    ],
    "head": [
        _small("msrn"),
        *(_small(f"{channels} channels", f"--channels={channels}") for channels in (64, 128, 512, 1024)),
        *(_small(f"dropout {rate}", f"--dropout={rate}") for rate in (0, 0.2, 0.6)),
        _small("no groups", "--pool_ratio=0"),
        *(_small(f"{count} groups", f"--pool_ratio={count / 20}") for count in (1, 2, 8)),
        _small("weight decay 0.1", "--weight_decay=0.1"),
        _small("mlp head", "--head=mlp"),
        _small("asymmetric loss", "--loss=asl"),
        _small("focal loss", "--loss=focal"),
        _small("10 epochs", "--epochs=10"),
    ],
    "scales": [
        _smaller("stride 32"),
        _smaller("stride 32, pooled to 3×3", "--tap_pooling=published"),
        _smaller("strides 16, 32", "--strides=16,32"),
        _smaller("strides 8, 16, 32", "--strides=8,16,32"),
        _smaller("strides 8, 16, 32, pooled to 14×14, 7×7, 7×7", "--strides=8,16,32", "--tap_pooling=auto"),
        _smaller("strides 8, 16, 32, pooled to 14×14, 7×7, 3×3", "--strides=8,16,32", "--tap_pooling=published"),
    ],
    "attention": [
        _form("msrn"),
        _form("average", attention="Average"),
        _form("learned temperature", attention="LearnedTemperature"),
        _form("dot product", attention="DotProduct"),
        _form("dot product, 4 heads", attention="DotProduct4"),
        _form("dot product, word vectors as they are", "--word_vector_norm=0", attention="DotProduct"),
        _form("dot product, no graph", "--graph_threshold=1", attention="DotProduct"),
        _form("dot product, no groups", "--pool_ratio=0", attention="DotProduct"),
    ],
    # One seed each, to choose by.
    "tuning_peers": [
        _head(f"{model}, rate {rate}, dropout {dropout}", f"--model={model}", *more, *choice)
        for model, rates, dropouts, more in (
            ("gap", ("1e-3", "3e-3", "1e-2", "3e-2"), (0.2, 0.4), ()),
            ("gmp", ("3e-3", "1e-2", "3e-2"), (0.2, 0.4), ()),
            ("csra", ("1e-3", "3e-3", "1e-2", "3e-2"), (0.2, 0.4), ()),
            ("ml_decoder", ("1e-4", "3e-4", "1e-3"), (0.1, 0.4), ("--channels=768",)),
            ("msrn", ("1e-3", "2e-3"), (0.4, 0.6), (SHORT_WORDS,)),
        )
        for rate in rates
        for dropout in dropouts
        for choice in ((f"--learning_rate={rate}", f"--dropout={dropout}"),)
    ]
    + [
        _head(
            f"dot product, rate {rate}, dropout {dropout}",
            SHORT_WORDS,
            f"--learning_rate={rate}",
            f"--dropout={dropout}",
            attention="DotProduct",
        )
        for rate in ("1e-3", "2e-3")
        for dropout in (0.4, 0.6)
    ],
    # Each head with the rate and dropout that did best on `val`.
    "peers": [
        _head("gap, Lite0", "--model=gap", "--learning_rate=1e-2", "--dropout=0.4"),
        _head("gmp, Lite0", "--model=gmp", "--learning_rate=1e-2", "--dropout=0.4"),
        _head("csra, Lite0", "--model=csra", "--learning_rate=1e-2", "--dropout=0.4"),
        _head("ml_decoder, Lite0", "--model=ml_decoder", *ML_DECODER, "--learning_rate=1e-3"),
        _head("msrn, Lite0", SHORT_WORDS, *MSRN_TUNED),
        _head("dot product, Lite0", SHORT_WORDS, *MSRN_TUNED, attention="DotProduct"),
        _head("cosine, Lite0", COSINE, SHORT_WORDS, *MSRN_TUNED),
    ],
    "attention_wide": [
        _wide("msrn"),
        _wide("average", attention="Average"),
        _wide("dot product", attention="DotProduct"),
        _wide("cosine", COSINE),
        _wide("cosine, no graph", COSINE, "--graph_threshold=1"),
        _wide("cosine, no groups", COSINE, "--pool_ratio=0"),
        _wide("cosine, 4 heads", COSINE, "--attention_heads=4"),
        _wide("cosine, rate 4e-3", COSINE, "--learning_rate=4e-3"),
        _wide("msrn, rate 4e-3", "--learning_rate=4e-3"),
        *(
            _wide(f"{name}, strides {strides}", f"--strides={strides}", *flags)
            for name, flags in (("msrn", ()), ("cosine", (COSINE,)))
            for strides in ("16,32", "8,16,32")
        ),
    ],
    # One seed each, to choose by: the rates of head and backbone.
    "tuning_lite0": _finetuned_rates(POOLING_AND_MSRN),
    "tuning_lite2": [
        *_finetuned_rates(POOLING_AND_MSRN, " on Lite2", *LITE2),
        _finetuned(BEST_LITE, *LITE2, COSINE),
    ],
    "tuning_peers_finetuned": _finetuned_rates(OTHER_HEADS),
    "peers_finetuned": [
        *_finetuned_rates(BEST_OF_EACH_HEAD),
        _finetuned("cosine, rates 1e-3 and 1e-4, 6 epochs", COSINE),
    ],
    "tuning_frozen_lite2": [
        _head(
            f"{name} on Lite2, rate {rate}",
            *LITE2,
            *flags,
            f"--learning_rate={rate}",
            "--dropout=0.4",
            attention=attention,
        )
        for name, flags, rates, attention in (
            ("gap", ("--model=gap",), ("3e-3", "1e-2", "3e-2"), ""),
            ("csra", ("--model=csra",), ("3e-3", "1e-2", "3e-2"), ""),
            ("msrn", (SHORT_WORDS,), ("1e-3", "2e-3", "4e-3"), ""),
            ("dot product", (SHORT_WORDS,), ("1e-3", "2e-3", "4e-3"), "DotProduct"),
            ("cosine", (COSINE, SHORT_WORDS), ("1e-3", "2e-3", "4e-3"), ""),
        )
        for rate in rates
    ],
    # With a trained backbone, at 512 channels.
    "attention_finetuned": [
        _finetuned("msrn"),
        _finetuned("average", attention="Average"),
        _finetuned("dot product", attention="DotProduct"),
        _finetuned("cosine", COSINE),
        *(
            _finetuned(f"{name}, strides {strides}", f"--strides={strides}", *flags)
            for name, flags in (("msrn", ()), ("cosine", (COSINE,)))
            for strides in ("16,32", "8,16,32")
        ),
    ],
    # Looked at on `test`.
    "best_frozen": [
        Variant("gap, 288 pixels", (*GAP_TUNED, "--image_size=288")),
        Variant("gmp, 288 pixels", (*GMP_TUNED, "--image_size=288")),
        Variant("msrn, 288 pixels", (SHORT_WORDS, "--image_size=288")),
    ],
    "best_frozen_224": [
        Variant("gap", GAP_TUNED),
        Variant("gmp", GMP_TUNED),
        Variant("msrn, 1024 channels", ("--channels=1024",)),
        Variant("msrn, gcn", ("--encoder=gcn", "--epochs=6")),
        Variant("msrn, word vectors of length 0.3", (SHORT_WORDS,)),
    ],
    # One label a photo is listed; scored on all labels of `test`.
    "single_positive": _unlisted("gap", GAP_288),
    "single_positive_msrn": _unlisted("msrn", MSRN_288),
    # The same rate of the backbone, 1e-4, for all.
    "best_finetuned": [
        Variant(BASELINE, (*GAP_TUNED, "--backbone_factor=0.03"), "finetuned"),
        Variant(BEST, (), "finetuned"),
        Variant("msrn, mlp head, 288 pixels", ("--head=mlp",), "finetuned"),
    ],
    "best_finetuned_224": [
        Variant("gap", (*GAP_TUNED, *AT_224, "--backbone_factor=0.03"), "finetuned"),
        Variant("gmp", (*GMP_TUNED, *AT_224, "--backbone_factor=0.01"), "finetuned"),
        Variant("msrn, mlp head", (*AT_224, "--head=mlp"), "finetuned"),
        Variant("msrn, gcn", (*AT_224, "--encoder=gcn"), "finetuned"),
        Variant("msrn, elementwise head", (*AT_224, "--channels=1024"), "finetuned"),
    ],
}


def select(group, only=()):
    """The variants of a group; where names are given, those alone."""
    if group not in GROUPS:
        raise UserError(f"--group={group}: is not one of {', '.join(GROUPS)}")
    names = [variant.name for variant in GROUPS[group]]
    for name in only:
        if name not in names:
            raise UserError(f"--group={group}: has no variant {name!r}; it has {', '.join(names)}")
    return [variant for variant in GROUPS[group] if not only or variant.name in only]
