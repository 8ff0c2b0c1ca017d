"""The SDK: how Python programs talk to a LocalModels server."""
