"""The learned judge of all evidence. Only this package imports torch, and only when it is used."""
