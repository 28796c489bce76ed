"""Training of the learned finder: simulate, features, train; each goes on where it stopped."""
