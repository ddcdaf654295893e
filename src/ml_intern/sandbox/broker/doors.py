"""Where the broker listens inside a pod, and what commands are told of it. Knows no connection."""

PROXY_PORT, HUB_PORT = 312, 313
"""On 127.0.0.1. Below 1024: no command has the right to listen there."""

PROXY = f"http://127.0.0.1:{PROXY_PORT}"
ENDPOINT = f"http://127.0.0.1:{HUB_PORT}"
PLACEHOLDER = "hf_placeholder_the_broker_adds_the_real_one"
"""Stands where clients look for a token; worth nothing anywhere."""
