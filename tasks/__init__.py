"""Prefect tasks: one file a stage. Each takes keys, asks dyprag to do the work and hands the result to storage."""
