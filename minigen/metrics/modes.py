"""Mode coverage where the modes are known: of points around known centres, and of stacked digits.

The protocols are those of VEEGAN (Srivastava et al., 2017) and PacGAN (Lin et al., 2018), after Metz et al.
(2017): 2,500 generated points for ``datasets.ring`` and ``datasets.grid``, 26,000 generated images for
``datasets.stacked_mnist``.
"""

from __future__ import annotations

from typing import Any

import numpy

from minigen import checks
from minigen.backend import Array
from minigen.core import numbers, to_host
from minigen.metrics import divergences
from minigen.metrics.classifier import Classifier
from minigen.metrics.entropy import frequencies


def point_coverage(samples: Any, centres: Any, sigma: float, within: float = 3.0) -> dict[str, Any]:
    """How many modes the ``samples`` (N, D) reach, and the share of them that are good.

    The modes are normal distributions around ``centres`` (modes, D), with the standard deviation ``sigma`` in
    each direction. A sample is good if it is at most ``within`` standard deviations, in Euclidean distance,
    from the centre that is nearest to it. ``modes`` is the number of centres with a good sample; ``good`` is
    the share of good samples, of which a sample that is NaN is none. Computed on the host in float64. In the
    plane, a share of 1 - exp(-within^2 / 2) of the data themselves is good, 0.989 by default. ``ValueError``
    if the arrays do not fit together, or if ``sigma`` or ``within`` is not positive.
    """
    samples, centres = (to_host(numbers("point_coverage", name, a)).astype("float64")
                        for name, a in (("samples", samples), ("centres", centres)))
    alike = samples.ndim == centres.ndim == 2 and samples.shape[1] == centres.shape[1]
    if not alike or 0 in samples.shape + centres.shape or not numpy.isfinite(centres).all():
        raise ValueError("point_coverage: samples (N, D) and finite centres (modes, D), at least one of "
                         f"each, expected, {samples.shape} and {centres.shape} found")
    limit = (checks.real("point_coverage", "within", within, "(0, inf)")
             * checks.real("point_coverage", "sigma", sigma, "(0, inf)"))
    distances = numpy.stack([numpy.linalg.norm(samples - centre, axis=1) for centre in centres])
    good = distances.min(axis=0) <= limit           # NaN is not
    reached = distances.argmin(axis=0)[good]
    return {"modes": len(numpy.unique(reached)), "good": float(good.mean())}


def label_coverage(labels: Any, classes: int) -> dict[str, Any]:
    """How many of the ``classes`` modes occur among ``labels`` (N,), and how far from equally often.

    ``modes`` is the number of different labels, integers in [0, classes). ``kl`` is KL(p || uniform) = log
    classes - mode entropy, in nats, where p_i is the share of the label i: 0 if all are equally frequent, log
    classes if only one is left. This plug-in estimate is too high by about (classes - 1) / 2N, 0.019 for
    1,000 classes and 26,000 labels. ``ValueError`` for other labels.
    """
    p = to_host(frequencies("label_coverage", labels, classes))
    return {"modes": int(numpy.count_nonzero(p)), "kl": divergences.kl(p, numpy.full(len(p), 1 / len(p)))}


def stacked_labels(classifier: Classifier, images: Any) -> Array:
    """The labels (N,) of stacked digits, as ``datasets.stacked_mnist`` counts them: C^2 a + C b + c, where a,
    b and c are the most probable of the ``classifier``'s C classes for the three channels.

    ``images`` are rows (N, 3 * pixels) of floats in [0, 1], pixel by pixel; the classifier is one of grey
    images (N, pixels). ``ValueError`` for other images.
    """
    pixels, classes = classifier.sizes[0], classifier.sizes[-1]
    checks.images("stacked_labels", images, (3 * pixels,))
    channels = images.reshape(len(images), pixels, 3)
    a, b, c = (classifier.predict(channels[:, :, i]) for i in range(3))
    return (a * classes + b) * classes + c
