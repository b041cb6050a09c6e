"""Prefect tasks: one file per stage. A task takes keys, lets dyprag do the work, and passes the result to storage."""
