"""The methods that find a COR: one row for each, and the function that the row names."""

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from tomopipe.entry_points import OF_ANOTHER_PACKAGE, TIME_LIMIT_S, Package, installed, load
from tomopipe.errors import TomopipeError

AZEVEDO = "S. G. Azevedo et al., IEEE Trans. Nucl. Sci. 37, 1525 (1990), doi:10.1109/23.55866"
BECK = (
    "A. Beck, M. Teboulle, IEEE Trans. Image Process. 18, 2419 (2009), doi:10.1109/TIP.2009.2028250"
)
DONATH = "T. Donath et al., J. Opt. Soc. Am. A 23, 1048 (2006), doi:10.1364/JOSAA.23.001048"
MASKED = "D. Padfield, IEEE Trans. Image Process. 21, 2706 (2012), doi:10.1109/TIP.2011.2181402"
WEDGE = "N. T. Vo et al., Opt. Express 22, 19078 (2014), doi:10.1364/OE.22.019078"


class CorMethod(NamedTuple):
    """A method that finds a COR: ours, or as a package states it by the entry point `GROUP`."""

    # module and its function: of `Curves`, of the try grid (n_candidates,) in unbinned pixels, and
    # of the file of a network, if one was given; it returns an `Answer`
    module: str
    function: str
    papers: tuple[str, ...] = ()
    needs_file: bool = False  # of the user: a network
    extra: str = ""  # of tomopipe, with a further package of that name
    # of another package: raised when answers change, and the limit of one call
    revision: int = 1
    time_limit_s: float = TIME_LIMIT_S

    def load(self, name: str) -> Callable[..., Any]:
        """Import the function; raise a TomopipeError if its package cannot be imported."""
        try:
            module = import_module(self.module)
        except ImportError as error:
            if not self.extra:
                raise
            raise TomopipeError(
                f"predict_cor.methods: {name} cannot run: {error}. "
                f"Install its libraries: pip install 'tomopipe[{self.extra}]'"
            ) from error
        function: Callable[..., Any] | None = getattr(module, self.function, None)
        if function is None:
            raise TomopipeError(f"the module {self.module} has no function {self.function}")
        return function


GROUP = "tomopipe.cor_methods"
"""The group of entry points, each the name of a method and a `CorMethod`."""
COR_METHODS = {
    "ai": CorMethod("tomopipe.cor.ai.finder", "find_ai", (MASKED, WEDGE, DONATH, AZEVEDO)),
    "classical": CorMethod("tomopipe.cor.classical", "find_classical", (BECK, MASKED, DONATH)),
}
METHODS = tuple(COR_METHODS)
# by its entry point
DINOV2 = CorMethod(
    "tomopipe.cor.ai.dinov2", "find_dinov2",
    (
        "M. Ilse et al., ICML (2018), arXiv:1802.04712",
        "X. Tang et al., tomo-center, github.com/xray-imaging/tomo-center",
    ),
    needs_file=True, extra="torch",
)  # fmt: skip


class Source(NamedTuple):
    """A method, and the package that has it; None: it is ours."""

    method: CorMethod
    package: Package | None


@cache
def method_named(name: str) -> Source:
    """Return a method, looking for a package that has it if it is not in `COR_METHODS`.

    A TomopipeError says that no package has it, or that its package cannot be used.
    """
    if name in COR_METHODS:
        return Source(COR_METHODS[name], None)
    result = load(GROUP, name, "the method")
    if result is None:
        choices = [*COR_METHODS, *installed(GROUP)]
        raise TomopipeError(
            f"should be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}{OF_ANOTHER_PACKAGE}"
        )
    method, package = result
    if not isinstance(method, CorMethod):
        raise TomopipeError(
            f"the method of {package}: expected a tomopipe.cor_methods.CorMethod, got "
            f"{type(method).__name__}; its package must be repaired"
        )
    return Source(method, None if package.name == "tomopipe" else package)


def of_packages(names: Iterable[str]) -> dict[str, str]:
    """Return what predictions state of methods of other packages."""
    sources = {name: method_named(name) for name in names}
    return {
        name: source.package.stated(source.method.revision)
        for name, source in sources.items()
        if source.package
    }
