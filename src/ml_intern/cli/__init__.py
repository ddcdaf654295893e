"""The command line: parses, then hands over to a door. Imports nothing heavy before it knows what is wanted."""
