"""Suggest a question to ask after an evaluation: one that a method answered correctly."""

from dyprag.storage.catalogue import Catalogue
from dyprag.storage.tables import read_rows

# The question must be answered correctly by the method, preferably also by the other methods with the right adapters,
# and not by the plain model or with wrong adapters. Such an answer is the least likely to change with rounding on
# another machine, or when the question is answered outside of its batch.
CHOICE = """
    SELECT arg_max(key, rank) AS key, arg_max(question_id, rank) AS question_id FROM (
        SELECT question_id, max(key) FILTER (method = $2) AS key,
            sum(CASE WHEN method IN ('prag', 'prag-combine', 'rag', 'dyprag-combine') THEN f1
                     WHEN method IN ('vanilla', 'prag-wrong', 'prag-combine-wrong') THEN -f1 ELSE 0 END) AS rank
        FROM scores WHERE run_id = $1 GROUP BY dataset, question_id
        HAVING max(f1) FILTER (method = $2) >= 0.999)
"""


def question_to_ask(catalogue: Catalogue, run_id: str, method: str) -> str | None:
    """A question of a run that a method answered correctly; None if there is none."""
    (best,) = catalogue.query(CHOICE, [run_id, method])
    if best["key"] is None:
        return None
    answers = read_rows(catalogue.store.open("prediction", best["key"]) / "predictions.parquet")
    question: str = next(answer["question"] for answer in answers if answer["question_id"] == best["question_id"])
    return question
