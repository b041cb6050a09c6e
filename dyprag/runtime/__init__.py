"""What a process does while it works: batches, threads, progress, interruption, proxies. Knows no method."""
