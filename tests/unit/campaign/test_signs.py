"""The signs of states: told apart with any colour vision."""

import itertools

import numpy as np
import pytest

from tomopipe.campaign.state.signs import COLOURS, SIGNS, State

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", 2009, at full severity: of linear RGB
VISION = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
XYZ = np.array(  # of linear sRGB, over that of white
    [
        [0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883],
    ]
)


def linear(colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB, in which equal distances look about equal; 2.3 is just seen."""
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 0, 1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_with_any_colour_vision(theme, vision):
    seen = {
        name: lab(VISION[vision] @ linear(getattr(colour, theme)))
        for name, colour in COLOURS.items()
    }
    near = {
        (one, other): np.linalg.norm(seen[one] - seen[other])
        for one, other in itertools.combinations(seen, 2)
    }
    assert min(near.values()) > 13, min(near, key=near.get)


@pytest.mark.parametrize(("theme", "grounds"), [
    ("light", ("#ffffff", "#fafaf8", "#f2f3f4", "#e9ecee")),
    ("dark", ("#14171a", "#1b1f23", "#23282d")),
])  # fmt: skip
def test_colours_can_be_read_as_text_and_grey_be_seen(theme, grounds):
    for name, colour in COLOURS.items():
        for ground in grounds:
            levels = sorted(float(XYZ[1] @ linear(c)) for c in (getattr(colour, theme), ground))
            least = 3.0 if name == "none" else 4.5  # WCAG 2, level AA
            assert (levels[1] + 0.05) / (levels[0] + 0.05) >= least, (name, ground)


def test_no_two_states_have_one_shape_and_one_by_hand_is_no_disc():
    assert len({sign.path for sign in SIGNS.values()}) == len(SIGNS)
    assert len({sign.character for sign in SIGNS.values()}) == len(SIGNS)
    assert {state for state, sign in SIGNS.items() if "a" in sign.path} == {"ok", "unselected"}


def test_each_state_is_one_word_which_is_also_a_css_class():
    assert [state for state in State if not (state.isascii() and state.isalpha())] == []
