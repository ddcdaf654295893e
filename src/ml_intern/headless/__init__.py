"""The unattended door: one prompt, progress on stderr, the answer on stdout, an exit code. Knows no tool,
no provider.
"""
