"""Servers that speak a real protocol to the real client; scripted, with a ledger. No product code inside."""
