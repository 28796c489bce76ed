"""Write the table of states into docs/reference/conventions.md: python docs/signs.py."""

from pathlib import Path

from tomopipe.campaign.state.signs import SIGNS, State

PAGE = Path(__file__).parent / "reference" / "conventions.md"
HEAD = "| state | | colour | meaning |\n|---|---|---|---|\n"


def page(text: str) -> str:
    """Return the page with the table of now in the place of its own."""
    before, _, rest = text.partition(HEAD)
    _, end, after = rest.partition("\n\n")
    return before + HEAD + "\n".join(map(_row, State)) + end + after


def _row(state: State) -> str:
    sign = SIGNS[state]
    colour = sign.style.replace("bright_black", "grey")
    return f"| {state} | {sign.character} | {colour} | {sign.meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")
