"""The methods that find a COR: one row for each, and the function that the row names."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from tomopipe.errors import TomopipeError

AZEVEDO = "S. G. Azevedo et al., IEEE Trans. Nucl. Sci. 37, 1525 (1990), doi:10.1109/23.55866"
BECK = (
    "A. Beck, M. Teboulle, IEEE Trans. Image Process. 18, 2419 (2009), doi:10.1109/TIP.2009.2028250"
)
DONATH = "T. Donath et al., J. Opt. Soc. Am. A 23, 1048 (2006), doi:10.1364/JOSAA.23.001048"
MASKED = "D. Padfield, IEEE Trans. Image Process. 21, 2706 (2012), doi:10.1109/TIP.2011.2181402"
WEDGE = "N. T. Vo et al., Opt. Express 22, 19078 (2014), doi:10.1364/OE.22.019078"


class CorMethod(NamedTuple):
    """A method that finds a COR."""

    # module of tomopipe.cor, and its function: of `Curves`, of the try grid (n_candidates,) in
    # unbinned pixels, and of the file of a network, if one was given; it returns an `Answer`
    module: str
    function: str
    papers: tuple[str, ...]
    needs_file: bool = False  # of the user: a network
    package: str = ""  # further package needed, an extra of this name

    def load(self, name: str) -> Callable[..., Any]:
        """Import the function; raise a TomopipeError if its package cannot be imported."""
        try:
            module = import_module(f"tomopipe.cor.{self.module}")
        except ImportError as error:
            if not self.package:
                raise
            raise TomopipeError(
                f"predict_cor.methods: {name} cannot run: {error}. "
                f"Install its libraries: pip install 'tomopipe[{self.package}]'"
            ) from error
        function: Callable[..., Any] = getattr(module, self.function)
        return function


COR_METHODS = {
    "ai": CorMethod("ai.finder", "find_ai", (MASKED, WEDGE, DONATH, AZEVEDO)),
    "classical": CorMethod("classical", "find_classical", (BECK, MASKED, DONATH)),
    "dinov2": CorMethod(
        "ai.dinov2", "find_dinov2",
        (
            "M. Ilse et al., ICML (2018), arXiv:1802.04712",
            "X. Tang et al., tomo-center, github.com/xray-imaging/tomo-center",
        ),
        needs_file=True, package="torch",
    ),
}  # fmt: skip
METHODS = tuple(name for name, method in COR_METHODS.items() if not method.needs_file)
