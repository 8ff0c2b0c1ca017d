"""Ratios against the bare engine or a peer, measured in one interleaved run. Absolute times mean nothing here."""
