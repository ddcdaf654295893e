"""Money, ids, time, text and errors: what every floor may use. Knows nothing of agents."""
