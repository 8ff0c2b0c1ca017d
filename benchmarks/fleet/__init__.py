"""A fleet on a virtual clock: routing and places as they are, hosts and callers as models of them."""
