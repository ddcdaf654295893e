"""Providers that speak neither of our protocols, through pydantic-ai's model layer. Knows no record and no retry."""
