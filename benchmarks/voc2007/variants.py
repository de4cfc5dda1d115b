"""What the study on VOC 2007 compares: groups of variants, each a recipe (a flagfile beside this) and changes to it."""

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: of the row and of its folder.
        flags: changes to the recipe.
        recipe: name of the flagfile.
        form: of `graph_forms`, or empty.
    """

    name: str
    flags: tuple[str, ...] = ()
    recipe: str = "frozen"
    form: str = ""

    def folder(self, runs, phase):
        """Where the runs of a phase are kept, a folder `seedN` each."""
        return os.path.join(runs, phase, self.recipe, self.name)


SMALL = ("--channels=256", "--epochs=5")
"""Ablations train at half of the width and for fewer epochs than the best model, so that five seeds are minutes."""

SMALLER = ("--channels=128", "--epochs=5")
"""Maps at strides 8 and 16 have 16 and 4 times the positions."""

BASELINE = "gap"
BEST = "msrn, elementwise head"
"""On test, of the fine-tuned: `configs/voc2007_mobilenet.cfg`."""

GAP_TUNED = ("--model=gap", "--learning_rate=3e-3", "--dropout=0.2")
GMP_TUNED = ("--model=gmp", "--learning_rate=1e-2")


def _small(name, *flags, form=""):
    return Variant(name, (*SMALL, *flags), form=form)


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
        Variant("dropout 0.6", ("--dropout=0.6",)),
        Variant("1024 channels", ("--channels=1024",)),
        Variant("no groups, 512 channels", ("--pool_ratio=0",)),
        Variant("moving average 0.995", ("--ema_decay=0.995",)),
        Variant("rate 5e-4", ("--learning_rate=5e-4",)),
        Variant("rate 2e-3", ("--learning_rate=2e-3",)),
    ],
    "tuning_finetuned": [
        Variant(
            f"{model}, backbone {factor} of the rate",
            (*flags, f"--backbone_factor={factor}", "--epochs=5", "--mixed_precision=none"),
            "finetuned",
        )
        for model, flags, factors in (("gap", GAP_TUNED, (0.03, 0.1)), ("msrn", (), (0.1, 0.3)))
        for factor in factors
    ],
    # Five seeds each.
    "graph": [
        _small("msrn"),
        _small("no graph", "--graph_threshold=1"),
        *(_small(f"threshold {value}", f"--graph_threshold={value}") for value in (0.1, 0.2, 0.3, 0.6)),
        _small("gcn", "--encoder=gcn"),
        _small("gcn, threshold 0.1", "--encoder=gcn", "--graph_threshold=0.1"),
        _small("random word vectors", form="random_words"),
        _small("one-hot word vectors", "--word_vectors=onehot"),
        _small("learned word vectors", "--word_vectors=learned"),
        _small("groups by co-occurrence", form="cooccurrence_groups"),
        _small("CorNet on the logits", form="cornet"),
        _small("label graph on the logits", form="logit_graph"),
        _small("label graph on the features", form="feature_graph"),
    ],
    "gcn": [
        _small("gcn", "--encoder=gcn"),
        _small("gcn, no graph", "--encoder=gcn", "--graph_threshold=1"),
        _small("gcn, random word vectors", "--encoder=gcn", form="random_words"),
        _small("gcn, no groups", "--encoder=gcn", "--pool_ratio=0"),
        _small("gcn, 512 channels", "--encoder=gcn", "--channels=512"),
        _small("gcn, dropout 0.6", "--encoder=gcn", "--dropout=0.6"),
        _small("gcn, weight decay 0.1", "--encoder=gcn", "--weight_decay=0.1"),
        _small("gcn, 10 epochs", "--encoder=gcn", "--epochs=10"),
        _small("gcn, asymmetric loss", "--encoder=gcn", "--loss=asl"),
    ],
    "graph_without_groups": [
        _small("no groups", "--pool_ratio=0"),
        _small("edge bias", "--pool_ratio=0", form="edge_bias"),
        _small("learned edges", "--pool_ratio=0", form="learned_edges"),
    ],
    "head": [
        _small("msrn"),
        *(_small(f"{channels} channels", f"--channels={channels}") for channels in (128, 512, 1024)),
        *(_small(f"dropout {rate}", f"--dropout={rate}") for rate in (0, 0.2, 0.6)),
        _small("no groups", "--pool_ratio=0"),
        *(_small(f"{count} groups", f"--pool_ratio={count / 20}") for count in (1, 2, 8)),
        *(_small(f"weight decay {value}", f"--weight_decay={value}") for value in (0.1, 1)),
        _small("mlp head", "--head=mlp"),
        _small("asymmetric loss", "--loss=asl"),
        _small("focal loss", "--loss=focal"),
    ],
    "scales": [
        _smaller("stride 32"),
        _smaller("stride 32, pooled to 3×3", "--tap_pooling=published"),
        _smaller("strides 16, 32", "--strides=16,32"),
        _smaller("strides 8, 16, 32, pooled", "--strides=8,16,32", "--tap_pooling=published"),
        _smaller("strides 8, 16, 32", "--strides=8,16,32"),
    ],
    # Looked at on `test`.
    "best_frozen": [
        Variant("gap", GAP_TUNED),
        Variant("gmp", GMP_TUNED),
        Variant("msrn"),
        Variant("msrn, 1024 channels", ("--channels=1024",)),
        Variant("msrn, gcn", ("--encoder=gcn", "--epochs=6")),
    ],
    "best_finetuned": [
        # The same rate of the backbone, 1e-4, for all.
        Variant("gap", (*GAP_TUNED, "--backbone_factor=0.03"), "finetuned"),
        Variant("gmp", (*GMP_TUNED, "--backbone_factor=0.01"), "finetuned"),
        Variant("msrn, mlp head", ("--head=mlp",), "finetuned"),
        Variant("msrn, gcn", ("--encoder=gcn",), "finetuned"),
        Variant(BEST, ("--channels=1024",), "finetuned"),
    ],
}
