"""The servers of the fleet: registered, changed, taken away, asked what they have, and shared by gateways.

The rule: a change is written first and counts here when it is written; how a server is, is told by its
monitor (:mod:`localmodels.fleet.monitor`) and kept nowhere.
"""
