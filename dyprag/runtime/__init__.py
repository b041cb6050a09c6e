"""Services for a running process, independent of the method: batching, threads, progress, interruption, proxies."""
