"""Other servers as one: how each is, and which of them a request goes to."""
