"""`dyprag augment`; with `--dry-run` what it would take, and with `--show` what it made of one document."""

from typing import Annotated, Any

import typer

from dyprag.cli.flow_runs import run_flow
from dyprag.cli.options import ConfigOption, JsonOption, SetOption, VerboseOption, of_store, read_config
from dyprag.cli.output import errors, print_json


def augment(
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    verbose: VerboseOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many requests and tokens it would take, and the cost.")
    ] = False,
    show: Annotated[
        str | None, typer.Option("--show", metavar="DOC", help="Only print what was made of this document.")
    ] = None,
) -> None:
    """Write rewrites and question-answer pairs for each document."""
    if not dry_run and show is None:
        run_flow("augment", config, set_, json_, verbose)
        return
    with errors():
        from dyprag.tasks.augmentation_preview import estimate, products

        settings = of_store(read_config(config, set_))
        shown = products(show, settings) if show is not None else estimate(settings)
        if json_:
            print_json(shown)
        else:
            print(products_text(shown) if show is not None else estimate_text(shown))


def estimate_text(found: dict[str, Any]) -> str:
    """The estimate in words."""
    if found["backend"] == "local":
        return f"{found['documents']} documents lack a product; the local model writes them, nothing is sent or paid."
    money = "no price is known (augment.api.prices)" if found["cost"] is None else f"about {found['cost']:.4f}"
    return (
        f"{found['documents']} documents lack a product: {found['requests']} requests to {found['model']}, about "
        f"{found['tokens_in']:,} tokens in and {found['tokens_out']:,} out; cost: {money}.\n"
        "More where an answer is not accepted at once. Nothing was sent."
    )


def products_text(found: dict[str, Any]) -> str:
    """A document and its products, to be read."""
    lines = [f"{found['title'] or found['id']}\n{found['text']}"]
    for product in ("rewrites", "qa_pairs"):
        if product not in found:
            continue
        part = found[product]
        lines.append(f"\n== {product.replace('_', ' ')}")
        if part.get("missing"):
            lines.append("not made yet" + (", but these answers came:" if part["answers"] else ""))
            lines += [f"[{answer['label']}, {answer['finish']}] {answer['text']}" for answer in part["answers"]]
            continue
        lines += [f"{_item(a['item'])}\n    {_marks(a['marks'])}" for a in part["accepted"]]
        lines += [f"dropped, {d['reason']}: {_item(d['item'])}" for d in part["dropped"]]
        measures = part["measures"]
        cost = "" if measures["cost"] is None else f", cost {measures['cost']:.5f}"
        if measures["requests"]:
            tokens = f"{measures['tokens_in']:,} tokens in, {measures['tokens_out']:,} out"
            lines.append(f"{measures['requests']} requests, {tokens}{cost}")
    return "\n".join(lines)


def _item(item: Any) -> str:
    return item if isinstance(item, str) else f"Q: {item['question']}\nA: {item['answer']} | {item['full_answer']}"


def _marks(marks: dict[str, Any]) -> str:
    rounded = {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in marks.items()}
    return ", ".join(f"{name} {value}" for name, value in rounded.items())
