"""The steps of a batch: validate → dedupe → stage → merge, run in order by `crave_bulk.pipeline.batch`."""
