"""All families of backbones, a line each."""

from msrn_tf.models.backbones import (
    applications,
    dinov2,
    dinov3,
    efficientnet_lite,
    hgnetv2,
    resnet,
    siglip,
    swin,
    vit,
)

FAMILIES = (
    resnet.FAMILY,
    efficientnet_lite.FAMILY,
    hgnetv2.FAMILY,
    swin.FAMILY,
    dinov2.FAMILY,
    dinov3.FAMILY,
    vit.FAMILY,
    siglip.FAMILY,
    *applications.FAMILIES,
)
BACKBONES = {name: family for family in FAMILIES for name in family.parameters}
"""Name → its family."""
