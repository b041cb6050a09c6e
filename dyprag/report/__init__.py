"""The report of a run: which method answers best, at what cost, and how the training went."""

from dyprag.report.page import Report, ReportData, augmentation_table, results_table, terminal_table, write_report

__all__ = ["Report", "ReportData", "augmentation_table", "results_table", "terminal_table", "write_report"]
