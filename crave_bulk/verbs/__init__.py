"""The verbs of a `Database`: thin, each hands over to the pipeline."""
