"""Labelled sets of persons, for evaluation."""
