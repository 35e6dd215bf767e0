"""Search a space of recipes: Optuna chooses, processes here or Ray's workers run, stages are cached by hash."""
