"""Evaluation: scores of answers, their statistics, comparisons, reports, and the fact-recall benchmark."""
