"""How notes of the inventory begin that results are stated to be made from."""

BY_ANGLE = "images ordered by the angles in their names"  # where earlier versions did not
COMMAS = "angles with decimal commas"  # earlier versions left out the decimals
NOT_SQUARE = "pixels are not square: "
