"""The texts that models are told before a conversation."""
