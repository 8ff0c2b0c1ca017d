"""From a file that is uploaded to a model that answers, here or on other servers.

The rule: names are given last, to the artifact when all of it was looked at, to the model when it has answered;
until then what had the name goes on.
"""
