"""What a trained translator is worth: faithful to the target domain, varied, content kept, components used.

Pure functions of tensors, and accumulators (`update` batch by batch, then `compute`) that give the same as one shot.
Figures of feature networks carry the name of the network (`Features.name`) in their keys, and their n.
"""

from gmvae_drit.metrics.averages import Average, Mean
from gmvae_drit.metrics.bins import BinComparison, Bins
from gmvae_drit.metrics.clusters import (
    cluster_accuracy,
    clusters_of_codes,
    contingency,
    normalized_mutual_information,
)
from gmvae_drit.metrics.components import (
    Distances,
    Usage,
    component_distances,
    component_usage,
    usage,
)
from gmvae_drit.metrics.features import (
    ClassifierFeatures,
    FeatureBank,
    Features,
    LayeredFeatures,
    PixelFeatures,
)
from gmvae_drit.metrics.frechet import frechet_distance
from gmvae_drit.metrics.kernel import KernelDistance, kernel_distance
from gmvae_drit.metrics.neighbours import nearest
from gmvae_drit.metrics.perceptual import (
    PerceptualDistance,
    PictureDistance,
    PixelDistance,
    perceptual_distance,
)
from gmvae_drit.metrics.translations import (
    accuracy,
    components_in_turn,
    cycle_error,
    reconstruction_error,
    translate_by_component,
    translate_by_prior,
    translate_by_reference,
)

__all__ = [
    "Average",
    "BinComparison",
    "Bins",
    "ClassifierFeatures",
    "Distances",
    "FeatureBank",
    "Features",
    "KernelDistance",
    "LayeredFeatures",
    "Mean",
    "PerceptualDistance",
    "PictureDistance",
    "PixelDistance",
    "PixelFeatures",
    "Usage",
    "accuracy",
    "cluster_accuracy",
    "clusters_of_codes",
    "component_distances",
    "component_usage",
    "components_in_turn",
    "contingency",
    "cycle_error",
    "frechet_distance",
    "kernel_distance",
    "nearest",
    "normalized_mutual_information",
    "perceptual_distance",
    "reconstruction_error",
    "translate_by_component",
    "translate_by_prior",
    "translate_by_reference",
    "usage",
]
