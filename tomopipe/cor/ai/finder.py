"""Method `ai`: the network chooses among all evidence, classical methods refine.

The evidence is registration [1]_, the double wedge [2]_, the sharpness of slices [3]_ and the
centre of mass [4]_.

References
----------
.. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Process.
   21, 2706 (2012).
.. [2] N. T. Vo et al., "Reliable method for calculating the center of rotation in parallel-beam
   tomography", Opt. Express 22, 19078 (2014).
.. [3] T. Donath et al., "Toward optimal estimation of the center of rotation", J. Opt. Soc. Am. A
   23, 1048 (2006).
.. [4] S. G. Azevedo et al., "Calculation of the rotational centers in computed tomography
   sinograms", IEEE Trans. Nucl. Sci. 37, 1525 (1990).
"""

import os

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.confidence import calibrated_confidence, confidence_features
from tomopipe.cor.ai.inputs import RECIPE, Inputs, NetworkOutput, make_inputs
from tomopipe.cor.ai.network import load_model, predict
from tomopipe.cor.ai.refinement import combined_px, refine_near
from tomopipe.cor.answer import AMBIGUOUS_BELOW, NO_SAMPLE, Answer, make_answer, nothing
from tomopipe.cor.curves import Curves

METHOD = "ai"
_NONE = 0.97  # probability of "none of these" above which a scan is flat


def find_ai(
    curves: Curves,
    candidates_px: NDArray[np.float64],
    model: str | os.PathLike[str] = "shipped",
) -> Answer:
    """Find the COR with a network that reads all curves of evidence.

    The whole detector is searched, and a confident answer counts wherever it is. Score: log-odds of
    each candidate against "none of these". TomopipeError if the weights are missing, damaged or for
    another recipe.
    """
    network = load_model(model)
    prepared = curves.prepared
    if why := prepared.unusable_angles:  # whether anything rotates is for the network to decide
        return nothing(METHOD, "flat", why, candidates_px)
    if not curves.measures.valid.any():
        return nothing(METHOD, "flat", NO_SAMPLE, candidates_px)
    inputs = make_inputs(curves)
    output = predict(network.weights, inputs)
    if output.none > _NONE:
        curve = _on_candidates(inputs, output, candidates_px)
        reason = prepared.no_signal or "no measure shows an axis"
        return Answer(METHOD, None, 0.0, "flat", reason, candidates_px, curve)
    refinement = refine_near(curves, float(inputs.cor_px[output.index]))
    confidence = calibrated_confidence(
        network.card["confidence"], confidence_features(inputs, output, refinement)
    )
    penalty = "the measures do not agree well enough"
    if confidence < AMBIGUOUS_BELOW:
        penalty = f"the axis may be elsewhere, such as at {_other_px(inputs, output):.1f} px"
    return make_answer(
        METHOD,
        combined_px(inputs, output, refinement),
        confidence,
        penalty,
        candidates_px,
        _on_candidates(inputs, output, candidates_px),
        on_border=output.index in (0, len(inputs.cor_px) - 1),
    )


def _on_candidates(
    inputs: Inputs, output: NetworkOutput, candidates_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.interp(candidates_px, inputs.cor_px, np.clip(output.score, -30.0, 30.0))


def _other_px(inputs: Inputs, output: NetworkOutput) -> float:
    """Return the second peak, at least `RECIPE.apart` samples away from the best."""
    score = output.score.copy()
    score[max(0, output.index - RECIPE.apart) : output.index + RECIPE.apart + 1] = -np.inf
    return float(inputs.cor_px[int(np.argmax(score))])
