"""`dyprag augment`; `--dry-run` estimates its cost, and `--show` prints the products of one document."""

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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the requests, tokens and cost.")] = False,
    show: Annotated[
        str | None, typer.Option("--show", metavar="DOC", help="Only print the products of this document.")
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


def estimate_text(estimated: dict[str, Any]) -> str:
    """The estimate as text."""
    if estimated["backend"] == "local":
        return f"{estimated['documents']} documents lack a product. The local model writes them at no cost."
    money = "unknown (set augment.api.prices)" if estimated["cost"] is None else f"about {estimated['cost']:.4f}"
    return (
        f"{estimated['documents']} documents lack a product: {estimated['requests']} requests to {estimated['model']}, "
        f"about {estimated['tokens_in']:,} tokens in and {estimated['tokens_out']:,} out; cost: {money}.\n"
        "Answers that are not accepted take further requests. Nothing was sent."
    )


def products_text(products: dict[str, Any]) -> str:
    """A document and its products as text."""
    lines = [f"{products['title'] or products['id']}\n{products['text']}"]
    for product in ("rewrites", "qa_pairs"):
        if product not in products:
            continue
        part = products[product]
        lines.append(f"\n== {product.replace('_', ' ')}")
        if part.get("missing"):
            lines.append("not written yet" + ("; answers so far:" if part["answers"] else ""))
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
