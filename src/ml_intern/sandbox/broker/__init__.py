"""The broker: the one way from a pod to the outside, by allow-list. Every module imports only the standard library."""
