"""Settings of the LLM that judges answers (§4)."""

from dyprag.config.api import ApiSettings
from dyprag.config.base import Section, basic, expert
from dyprag.methods.spec import Method


class JudgeSettings(Section):
    """An LLM that compares two methods' answers (§4, knowledge internalization)."""

    api: ApiSettings = basic(ApiSettings(), "The judge's endpoint. Without a model name there, nothing is judged.")
    pairs: tuple[tuple[Method, Method], ...] = expert((("dyprag-combine", "rag"),), "Pairs of methods to compare.")
    tries: int = expert(3, "Number of attempts for a malformed verdict.", ge=1)
