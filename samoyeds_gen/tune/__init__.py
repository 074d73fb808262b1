"""Measurement on a GPU: check first, then time ours and peers in the same run."""
