"""Mutated inputs for every reader of files, requests and addresses, and what may come of them."""
