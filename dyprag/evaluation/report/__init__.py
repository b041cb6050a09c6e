"""Reports of runs: gains over the controls, scores and costs of the methods, and the course of training."""

from dyprag.evaluation.report.findings import outputs_cut
from dyprag.evaluation.report.page import Report, ReportData, augmentation_table, write_report
from dyprag.evaluation.report.tables import brief_table, results_table, terminal_table

__all__ = [
    "Report",
    "ReportData",
    "augmentation_table",
    "brief_table",
    "outputs_cut",
    "results_table",
    "terminal_table",
    "write_report",
]
