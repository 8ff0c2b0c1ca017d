"""Figures about this server, in Prometheus' form."""
