"""Training on what a Dataset draws: `pretraining` is the loop, `demo` the main job in two minutes."""
