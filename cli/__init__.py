"""The command line: parses, calls flows, prints."""
